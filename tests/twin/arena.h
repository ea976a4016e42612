#pragma once

#include "tests/twin/report.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace twin {

// Device memory. Addresses are never used twice, and every allocation has its own pages of unused bytes around it.
struct Allocation {
  uintptr_t address;
  size_t bytes;
  unsigned allocated_by, freed_by;  // operations; freed_by 0: alive
};

void map_arena();
// Filled with 0xff and not written in the sense of the shadow; usable after operation `by`.
void* allocate_device(size_t bytes, unsigned by);
// The live allocation that starts at p, or null.
Allocation* allocation_at(const void* p);
// Runs as operation allocation->freed_by: checks that nobody uses it any more, and drops the pages.
void release_device(Allocation* allocation);

struct Fault {
  Kind kind;
  std::string text;
};
// What is wrong with operation `by` using [address, address + n) of device memory; nothing when all is well.
std::optional<Fault> check_device(uintptr_t address, size_t n, unsigned by);

// Marks a range of device memory as read or written by a copy, and reports what is wrong; false: it must not run.
bool touch_device(const void* p, size_t n, bool write, unsigned by, const char* what);

// Device memory faults on the host except while an operation runs.
class OpenArena {
 public:
  OpenArena();
  ~OpenArena();
  OpenArena(const OpenArena&) = delete;
};

// After every stream has finished: see `settle` in shadow.h.
void settle_arena();

void* allocate_pinned(size_t bytes);
bool free_pinned(void* p);
bool in_pinned(const void* p, size_t bytes);

}  // namespace twin
