#pragma once

#include "tests/twin/kernel_interface.h"
#include "tests/twin/report.h"
#include "tests/twin/shadow.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

namespace twin {

enum class State : uint8_t { kReady, kAtBarrier, kInWarp, kDone };

// One CUDA thread of the running block.
struct Thread {
  void* stack;
  uint3 index;
  unsigned number;  // in the block
  Stamp stamp;      // how the shadow knows it now
  State state;
  Place place;     // where it waits
  WarpCall* call;  // what it waits for, when in a warp operation
};

extern Thread* running;         // null on the host
extern unsigned barrier_clock;  // of the running block, see shadow.h

struct Grid {
  dim3 blocks, threads;
  size_t dynamic_shared, allowed_shared;
  KernelCall* call;
  const void* kernel;
  unsigned operation;
};

// Runs all blocks, one after the other in a drawn order, the threads of a block interleaved at barriers and warp
// operations. After the first finding that makes going on senseless the rest of the grid is not run.
void run_grid(const Grid& grid);

// Called on a thread's stack: reports and abandons the grid.
[[noreturn]] void stop_grid(Kind kind, const std::string& text, const void* code);

// True for the parameters of the running kernel.
bool in_parameters(uintptr_t address, size_t n);

uint64_t switches_so_far();
uint64_t threads_so_far();
uint64_t launches_so_far();

}  // namespace twin
