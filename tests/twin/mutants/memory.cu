#include "kernels/cuda/device.cuh"
#include "tests/twin/mutants/mutants.h"

#include <cmath>

namespace mutants {

namespace {

__global__ void copy(const float* x, float* y, int n, int offset) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) y[i] = x[i + offset];
}
cudaError_t run_copy(const Buffers& b, const float* x, int n, int offset) {
  return dev_launch(copy, 1, 64, 0, b.stream, x, b.y, n, offset);
}
bool copy_correct(const Result& r) { return r.x == r.y; }

__global__ void table_lookup(float* y) {
  constexpr float kTable[5] = {2, 3, 5, 7, 11};
  y[threadIdx.x] = kTable[threadIdx.x % 5];
}
bool table_lookup_correct(const Result& r) { return r.y[0] == 2 && r.y[9] == 11; }

template <int kShift>
__global__ void vector_copy(const float* x, float* y) {
  const unsigned i = threadIdx.x * 4;
  dev::st_vec(y + i, dev::ld_vec<float4>(x + i + kShift));
}
__global__ void cast_copy(const float* x, float* y) {
  reinterpret_cast<float4*>(y)[threadIdx.x] = *reinterpret_cast<const float4*>(x + 1 + threadIdx.x * 4);
}
bool vector_copy_correct(const Result& r) { return r.y[0] == r.x[0] && r.y[127] == r.x[127]; }

__global__ void use_shared(const float* x, float* y, int written, int last) {
  DEV_SHARED(float, a, 64);
  DEV_SHARED(float, b, 64);
  if (static_cast<int>(threadIdx.x) < written) a[threadIdx.x] = x[threadIdx.x];
  b[threadIdx.x] = 1;
  dev::sync_block();
  y[threadIdx.x] = a[dev::min(static_cast<int>(threadIdx.x) + 1, last)] + b[threadIdx.x];
}
cudaError_t run_use_shared(const Buffers& b, int written, int last) {
  return dev_launch(use_shared, 1, 64, 0, b.stream, b.x, b.y, written, last);
}

__global__ void use_dynamic(const float* x, float* y) {
  DEV_DYN_SHARED(float, buffer);
  buffer[threadIdx.x] = x[threadIdx.x];
  dev::sync_block();
  y[threadIdx.x] = buffer[blockDim.x - 1 - threadIdx.x];
}
cudaError_t run_use_dynamic(const Buffers& b, size_t bytes) {
  return dev_launch(use_dynamic, 1, 64, bytes, b.stream, b.x, b.y);
}
bool use_dynamic_correct(const Result& r) { return r.y[0] == r.x[63] && r.y[63] == r.x[0]; }

__global__ void much_static_shared(float* y) {
  DEV_SHARED(float, a, 12289);
  a[threadIdx.x] = 1;
  y[threadIdx.x] = a[threadIdx.x];
}

__global__ void local_array(const float* x, float* y, int n) {
  float a[4] = {0, 0, 0, 0};
  for (int i = 0; i < n; ++i) a[i] = x[i];
  y[threadIdx.x] = a[0] + a[1] + a[2] + a[3];
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
__global__ void uninitialised_local(const float* x, float* y, int n) {
  float v;
  if (static_cast<int>(threadIdx.x) < n) v = x[threadIdx.x];
  y[threadIdx.x] = v;
}
#pragma GCC diagnostic pop
bool uninitialised_local_correct(const Result& r) { return r.y[63] == 0; }

__global__ void stack_of_another_thread(float* y) {
  DEV_SHARED(float*, place, 1);
  float mine[1] = {static_cast<float>(threadIdx.x)};
  if (threadIdx.x == 0) place[0] = mine;
  dev::sync_block();
  y[threadIdx.x] = *place[0] + mine[0];
  dev::sync_block();
}

__global__ void index_product(const float* x, float* y, int rows, int columns) { y[0] = x[(rows * columns) & 1]; }
__global__ void wide_shift(uint32_t* counter, int bits) { counter[0] = 1 << bits; }
__global__ void division(uint32_t* counter, int divisor) { counter[0] = static_cast<uint32_t>(7 / divisor); }

cudaError_t run_freed(const Buffers& b) {
  void* p = nullptr;
  cudaMallocAsync(&p, kN * sizeof(float), b.stream);
  cudaMemsetAsync(p, 0, kN * sizeof(float), b.stream);
  cudaFreeAsync(p, b.stream);
  return run_copy(b, static_cast<const float*>(p), kN, 0);
}

cudaError_t run_unwritten(const Buffers& b) {
  void* p = nullptr;
  cudaMallocAsync(&p, kN * sizeof(float), b.stream);
  const cudaError_t error = run_copy(b, static_cast<const float*>(p), kN, 0);
  cudaFreeAsync(p, b.stream);
  return error;
}

}  // namespace

std::vector<Case> memory_cases() {
  using twin::Kind;
  return {
      {"Copy", {}, [](const Buffers& b) { return run_copy(b, b.x, kN, 0); }, copy_correct, false},
      {"VectorCopy",
       {},
       [](const Buffers& b) { return dev_launch(vector_copy<0>, 1, 32, 0, b.stream, b.x, b.y); },
       vector_copy_correct,
       false},
      {"ConstexprTable",
       {},
       [](const Buffers& b) { return dev_launch(table_lookup, 1, 32, 0, b.stream, b.y); },
       table_lookup_correct,
       false},
      {"DynamicShared",
       {},
       [](const Buffers& b) { return run_use_dynamic(b, 64 * sizeof(float)); },
       use_dynamic_correct,
       false},
      {"DynamicSharedOver48KiB",
       {},
       [](const Buffers& b) { return run_use_dynamic(b, 100 << 10); },
       use_dynamic_correct,
       false},
      {"ReadPastEnd", Kind::kOutOfBounds, [](const Buffers& b) { return run_copy(b, b.x, kN, 1); }},
      {"ReadBeforeBegin", Kind::kOutOfBounds, [](const Buffers& b) { return run_copy(b, b.x, kN, -1); }},
      {"WritePastEnd", Kind::kOutOfBounds, [](const Buffers& b) { return run_copy(b, b.x - 1, kN + 1, 0); }},
      {"FreedMemory", Kind::kUseAfterFree, run_freed},
      {"UnwrittenMemory", Kind::kUninitialised, run_unwritten},
      {"HostPointer", Kind::kWrongSpace, [](const Buffers& b) { return run_copy(b, b.host, kN, 0); }},
      {"NullPointer", Kind::kWrongSpace, [](const Buffers& b) { return run_copy(b, nullptr, kN, 0); }},
      {"MisalignedVector", Kind::kMisaligned,
       [](const Buffers& b) { return dev_launch(vector_copy<1>, 1, 32, 0, b.stream, b.x, b.y); }},
      {"MisalignedCast", Kind::kMisaligned,
       [](const Buffers& b) { return dev_launch(cast_copy, 1, 32, 0, b.stream, b.x, b.y); }},
      {"UnwrittenShared", Kind::kUninitialised, [](const Buffers& b) { return run_use_shared(b, 63, 63); }},
      {"StaticSharedPastEnd", Kind::kOutOfBounds, [](const Buffers& b) { return run_use_shared(b, 64, 64); }},
      {"DynamicSharedTooSmall", Kind::kOutOfBounds,
       [](const Buffers& b) { return run_use_dynamic(b, 63 * sizeof(float)); }},
      {"DynamicSharedNotAskedFor", Kind::kOutOfBounds, [](const Buffers& b) { return run_use_dynamic(b, 0); }},
      {"StaticSharedOver48KiB", Kind::kLimit,
       [](const Buffers& b) { return dev_launch(much_static_shared, 1, 32, 0, b.stream, b.y); }},
      {"LocalArrayPastEnd", Kind::kOutOfBounds,
       [](const Buffers& b) { return dev_launch(local_array, 1, 32, 0, b.stream, b.x, b.y, 5); }},
      {"UninitialisedLocal",
       {},
       [](const Buffers& b) { return dev_launch(uninitialised_local, 1, 64, 0, b.stream, b.x, b.y, 40); },
       uninitialised_local_correct},
      {"StackOfAnotherThread", Kind::kWrongSpace,
       [](const Buffers& b) { return dev_launch(stack_of_another_thread, 1, 64, 0, b.stream, b.y); }},
      {"Int32IndexOverflow", Kind::kUndefined,
       [](const Buffers& b) { return dev_launch(index_product, 1, 32, 0, b.stream, b.x, b.y, 70000, 70000); }},
      {"ShiftByTheWidth", Kind::kUndefined,
       [](const Buffers& b) { return dev_launch(wide_shift, 1, 32, 0, b.stream, b.counter, 32); }},
      {"DivisionByZero", Kind::kUndefined,
       [](const Buffers& b) { return dev_launch(division, 1, 32, 0, b.stream, b.counter, 0); }},
  };
}

}  // namespace mutants
