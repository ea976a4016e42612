#pragma once

#include "tests/twin/report.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

// Small kernels, each sound and then with one fault at a time. They are the emulator's own tests: every fault must be
// found under every seed, and no sound kernel may be blamed.
namespace mutants {

constexpr int kN = 1024;

struct Buffers {
  const float* x;     // kN normal numbers
  float* y;           // kN zeros
  uint32_t* counter;  // kN zeros
  const float* host;  // kN zeros in ordinary host memory
  cudaStream_t stream;
};
struct Result {
  std::vector<float> x, y;
  std::vector<uint32_t> counter;
};

struct Case {
  std::string name;
  std::optional<twin::Kind> finding;  // of a broken kernel; none: sound, or only `correct` tells
  std::function<cudaError_t(const Buffers&)> run;
  std::function<bool(const Result&)> correct = {};  // empty: nothing to compare
  bool broken = true;
};

inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }  // for gtest

// y: the order in which the threads of four blocks came.
cudaError_t run_arrivals(const Buffers& b);

cudaError_t run_many_barriers(int count, const Buffers& b);

std::vector<Case> barrier_cases();
std::vector<Case> race_cases();
std::vector<Case> warp_cases();
std::vector<Case> memory_cases();

}  // namespace mutants
