#pragma once

#include <cstdint>
#include <string>
#include <vector>

// The twin: CUDA kernels and the host code around them, run on the host without a GPU and checked while they run.
// The same .cu files are compiled by g++ (deepflow_twin_tests in cmake/deepflow_cuda.cmake) and linked with this
// emulator instead of the CUDA libraries. What it finds, how, and what it cannot find: tests/twin/README.md.
// One thread of the process uses it.
namespace twin {

enum class Order { kAscending, kDescending, kRandom };

struct Config {
  uint64_t seed = 1;             // of every choice a GPU leaves open: threads, blocks, streams
  Order order = Order::kRandom;  // of the threads of a block and the blocks of a grid
};

// Starts a run with its own seed: finishes what is queued, forgets reports and the order of past operations.
// Streams, events and memory stay valid.
void start(const Config& config);

// What was found since the last call, one line each: "kind: what [kernel block thread] place".
std::vector<std::string> take_reports();

// Device and pinned allocations that nobody has freed.
size_t live_allocations();

struct Statistics {
  uint64_t launches = 0, threads = 0, switches = 0, accesses = 0;
};
Statistics statistics();

}  // namespace twin
