#pragma once

#include <cstddef>
#include <cstdint>

namespace twin {

// Who touched a byte. Packed as operation 16 | block 20 | clock 16 | thread 11 | flag 1; zero is nobody.
// `clock` grows at every barrier of the block (all warps together) and at every sync_warp (that warp alone), so two
// accesses of one block are ordered when a barrier lies between them, or, in one warp, when their clocks differ.
using Stamp = uint64_t;
constexpr unsigned kMaxClock = 65535;
constexpr unsigned kMaxBlocks = (1 << 20) - 1;

constexpr Stamp make_stamp(uint64_t operation, uint64_t block, uint64_t clock, uint64_t thread) {
  return operation << 48 | block << 28 | clock << 12 | thread << 1;
}

// One cell per byte of device and shared memory.
struct Cell {
  Stamp writer = 0;  // flag: an atomic operation
  Stamp reader = 0;  // since that write; flag: readers of other streams are kept beside the cell
};

struct Access {
  Stamp stamp;
  unsigned barrier_clock;  // clock of the block at its last barrier
  bool write, atomic, shared;
  const void* code;
};

// Checks an access of n bytes against who was there before (race, uninitialised read), then records it.
void touch(Cell* cells, size_t n, const Access& access);

// Only checks: for memory that nobody uses afterwards.
void check_last_use(const Cell* cells, size_t n, const Access& access);

// After every stream has finished: who was there no longer matters, that it is written does.
void settle(Cell* cells, size_t n);

Cell* device_cells(uintptr_t address);
Cell* shared_cells(uintptr_t address);
void map_shadow();
void drop_device_cells(uintptr_t address, size_t n);
void drop_shared_cells();  // before operation numbers are used again

}  // namespace twin
