#pragma once

#include <cstdint>

namespace twin {

// One fiber is one CUDA thread: a stack of its own and a stack pointer while it does not run (x86-64, System V).
constexpr unsigned kMaxThreads = 1024;  // of a block, as on a GPU
constexpr uintptr_t kStackBytes = 64 << 10;
constexpr uintptr_t kStackBase = 0x310000000000;

inline uintptr_t stack_of(unsigned fiber) { return kStackBase + fiber * kStackBytes; }
inline bool in_fiber_stacks(uintptr_t address) { return address - kStackBase < kStackBytes * kMaxThreads; }

// Maps the stacks, the lowest page of each without access: a local array too large faults. Once per process.
void map_stacks();

// A stack pointer from which `switch_fiber` starts `entry`, which never returns.
void* fresh_stack(unsigned fiber, void (*entry)());

// Saves the running context to *save and goes on at `to`.
extern "C" void twin_switch_fiber(void** save, void* to);

}  // namespace twin
