#pragma once

#include <cstdint>
#include <string>

namespace twin {

enum class Kind {
  kRace,           // two accesses without an order, at least one of them a write
  kUninitialised,  // read of memory that nobody wrote
  kOutOfBounds,
  kUseAfterFree,
  kLifetime,  // use not ordered against the allocation or the free
  kMisaligned,
  kWrongSpace,  // host memory in a kernel, another thread's stack
  kBarrier,
  kDeadlock,
  kWarp,
  kLimit,      // what the hardware or the emulator cannot hold
  kUndefined,  // undefined behaviour of C++: overflow, shift, division, index
  kApi,        // a call that CUDA or our rules forbid
};
const char* kind_name(Kind kind);

// Where in a kernel a finding happened; kept up to date by the executor.
struct Site {
  const void* kernel = nullptr;
  unsigned block = 0, thread = 0;
};
extern const Site* current_site;  // null outside kernels

// Adds a finding. The same kind at the same code address counts once; after 20 the rest is dropped. `code` is an
// address inside the offending code: it becomes file:line when the reports are taken.
void report(Kind kind, const std::string& text, const void* code = nullptr);
bool found(Kind kind);  // since the reports were last taken or forgotten
void forget_reports();

}  // namespace twin
