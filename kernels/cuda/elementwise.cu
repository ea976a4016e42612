#include "core/cuda_check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/elementwise.h"

namespace deepflow::cuda {
namespace {

constexpr int kThreads = 256;

cudaStream_t native_stream(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

// Each operation reads old values of `to` and `from` and gives the new one of `to`.
struct Convert {
  static constexpr bool kReadsTo = false, kReadsFrom = true;
  __device__ float operator()(float, float from) const { return from; }
};
struct Accumulate {
  static constexpr bool kReadsTo = true, kReadsFrom = true;
  __device__ float operator()(float to, float from) const { return to + from; }
};
struct Scale {
  static constexpr bool kReadsTo = true, kReadsFrom = false;
  float factor;
  __device__ float operator()(float to, float) const { return to * factor; }
};
struct Fill {
  static constexpr bool kReadsTo = false, kReadsFrom = false;
  float value;
  __device__ float operator()(float, float) const { return value; }
};

template <int N, class To, class From, class Operation>
__device__ void apply(Operation operation, To* to, const From* from) {
  float a[N] = {}, b[N] = {};
  if constexpr (Operation::kReadsTo) dev::load<N>(to, a);
  if constexpr (Operation::kReadsFrom) dev::load<N>(from, b);
#pragma unroll
  for (int k = 0; k < N; ++k) a[k] = operation(a[k], b[k]);
  dev::store<N>(to, a);
}

template <int N, class To, class From, class Operation>
__global__ void __launch_bounds__(kThreads) map(Operation operation, To* to, const From* from, int64_t n) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  if (first + N <= n) {
    apply<N>(operation, to + first, from + first);
  } else {
    for (int64_t j = first; j < n; ++j) apply<1>(operation, to + j, from + j);
  }
}

template <class To, class From, class Operation>
void launch(Operation operation, To* to, const From* from, int64_t n, Stream& stream) {
  if (n == 0) return;
  const bool four = dev::aligned_for_four(to, from);
  const int64_t per_block = kThreads * (four ? 4 : 1);
  check_cuda(dev_launch(four ? map<4, To, From, Operation> : map<1, To, From, Operation>,
                        static_cast<unsigned>((n + per_block - 1) / per_block), kThreads, 0, native_stream(stream),
                        operation, to, from, n),
             "an elementwise kernel");
}

// Calls f with a typed pointer.
template <class Void, class F>
void with_type(Void* p, DType dtype, F f) {
  constexpr bool kConst = std::is_const_v<Void>;
  if (dtype == DType::kF32) {
    f(static_cast<std::conditional_t<kConst, const float, float>*>(p));
  } else {
    DF_CUDA_ASSERT(dtype == DType::kBF16);
    f(static_cast<std::conditional_t<kConst, const dev::Bf16, dev::Bf16>*>(p));
  }
}

template <class Void, class F>
void with_type_or_half(Void* p, DType dtype, F f) {
  if (dtype == DType::kF16) {
    f(static_cast<std::conditional_t<std::is_const_v<Void>, const dev::Half, dev::Half>*>(p));
  } else {
    with_type(p, dtype, f);
  }
}

}  // namespace

void convert(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t n, Stream& stream) {
  with_type_or_half(from, from_dtype, [&](auto* source) {
    with_type_or_half(to, to_dtype, [&](auto* target) { launch(Convert{}, target, source, n, stream); });
  });
}

void accumulate(void* into, DType into_dtype, const void* x, DType x_dtype, int64_t n, Stream& stream) {
  with_type(x, x_dtype, [&](auto* source) {
    with_type(into, into_dtype, [&](auto* target) { launch(Accumulate{}, target, source, n, stream); });
  });
}

void scale(void* x, DType dtype, int64_t n, float factor, Stream& stream) {
  with_type(x, dtype, [&](auto* p) { launch(Scale{factor}, p, static_cast<const float*>(nullptr), n, stream); });
}

void fill(void* x, DType dtype, int64_t n, float value, Stream& stream) {
  with_type(x, dtype, [&](auto* p) { launch(Fill{value}, p, static_cast<const float*>(nullptr), n, stream); });
}

void copy_rows(const void* from, int64_t from_pitch, void* to, int64_t to_pitch, int64_t bytes, int64_t rows,
               Stream& stream) {
  if (bytes == 0 || rows == 0) return;
  check_cuda(cudaMemcpy2DAsync(to, static_cast<size_t>(to_pitch), from, static_cast<size_t>(from_pitch),
                               static_cast<size_t>(bytes), static_cast<size_t>(rows), cudaMemcpyDefault,
                               native_stream(stream)),
             "copying rows");
}

}  // namespace deepflow::cuda
