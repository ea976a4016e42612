#pragma once

// The one device header: everything that kernels take from CUDA, under names of ours. Two halves declare the same
// primitives, this file for nvcc and tests/twin/device_primitives.h for g++, where the same kernels run on a host
// emulator. The rules for device code: kernels/cuda/README.md.
//
//   DEV_SHARED(T, name, n)      static shared array; DEV_DYN_SHARED(T, name) the dynamic block, 16-byte aligned
//   dev::sync_block, sync_warp  barriers; all threads of the block or warp come to the same one
//   dev::shuffle*, ballot       full warps only; source lanes wrap (shuffle) or keep the own value (up, down)
//   dev::atomic_*               integers only; returns the old value, in no order
//   dev::ld_vec, st_vec         one access of sizeof(V) bytes, aligned to it
//   dev::load<N>, store<N>      N = 1 or 4 neighbours of any storage type, as f32
//   dev_launch                  the only way to start a kernel

#include "core/dtype.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#ifdef DEEPFLOW_TWIN
#include <twin/device_primitives.h>  // of tests/
#else

#define DEV_SHARED(T, name, n) __shared__ T name[n]
#define DEV_DYN_SHARED(T, name)                                        \
  extern __shared__ __align__(16) unsigned char dev_dynamic_shared_[]; \
  T* name = reinterpret_cast<T*>(dev_dynamic_shared_)

namespace dev {

constexpr unsigned kFullWarp = 0xffffffffu;

__device__ inline void sync_block() { __syncthreads(); }
__device__ inline void sync_warp() { __syncwarp(kFullWarp); }

__device__ inline int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31);
}
template <class T>
__device__ T shuffle(T value, int source) {
  return __shfl_sync(kFullWarp, value, source);
}
template <class T>
__device__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(kFullWarp, value, mask);
}
template <class T>
__device__ T shuffle_up(T value, int distance) {
  return __shfl_up_sync(kFullWarp, value, distance);
}
template <class T>
__device__ T shuffle_down(T value, int distance) {
  return __shfl_down_sync(kFullWarp, value, distance);
}
__device__ inline uint32_t ballot(bool predicate) { return __ballot_sync(kFullWarp, predicate); }

// D[16,8] += A[16,16] B[16,8] in f32, the fragments spread over the warp as PTX draws them.
__device__ inline void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

namespace detail {
template <class T>
constexpr bool kAtomic = std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);
// CUDA declares its 8-byte atomics for long long only.
template <class T>
using Atomic =
    std::conditional_t<sizeof(T) == 4, T, std::conditional_t<std::is_signed_v<T>, long long, unsigned long long>>;
}  // namespace detail

template <class T>
__device__ T atomic_add(T* p, std::type_identity_t<T> v) {
  static_assert(detail::kAtomic<T>, "no floating-point atomics");
  using U = std::make_unsigned_t<detail::Atomic<T>>;
  return static_cast<T>(atomicAdd(reinterpret_cast<U*>(p), static_cast<U>(v)));
}
template <class T>
__device__ T atomic_max(T* p, std::type_identity_t<T> v) {
  static_assert(detail::kAtomic<T>);
  using U = detail::Atomic<T>;
  return static_cast<T>(atomicMax(reinterpret_cast<U*>(p), static_cast<U>(v)));
}
template <class T>
__device__ T atomic_min(T* p, std::type_identity_t<T> v) {
  static_assert(detail::kAtomic<T>);
  using U = detail::Atomic<T>;
  return static_cast<T>(atomicMin(reinterpret_cast<U*>(p), static_cast<U>(v)));
}
template <class T>
__device__ T atomic_or(T* p, std::type_identity_t<T> v) {
  static_assert(detail::kAtomic<T>);
  using U = std::make_unsigned_t<detail::Atomic<T>>;
  return static_cast<T>(atomicOr(reinterpret_cast<U*>(p), static_cast<U>(v)));
}

template <class V, class T>
__device__ V ld_vec(const T* p) {
  return *reinterpret_cast<const V*>(p);
}
template <class T, class V>
__device__ void st_vec(T* p, V value) {
  *reinterpret_cast<V*>(p) = value;
}

__device__ inline float rsqrt(float x) { return ::rsqrtf(x); }
__device__ inline int count_bits(uint32_t x) { return __popc(x); }
__device__ inline int leading_zeros(uint32_t x) { return __clz(static_cast<int>(x)); }
__device__ inline uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ inline float float_of(uint32_t x) { return __uint_as_float(x); }

namespace detail {
template <class... P, class... A>
cudaError_t launch(const cudaLaunchConfig_t& config, void (*kernel)(P...), A&&... arguments) {
  return cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...);
}
}  // namespace detail

}  // namespace dev

#endif  // from here on both compilers read the same

namespace dev {

template <class T>
__device__ constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
__device__ constexpr T max(T a, T b) {
  return a < b ? b : a;
}
__device__ inline float sqrt(float x) { return ::sqrtf(x); }
__device__ inline float exp(float x) { return ::expf(x); }
__device__ inline float log(float x) { return ::logf(x); }
__device__ inline float tanh(float x) { return ::tanhf(x); }
__device__ inline float erf(float x) { return ::erff(x); }
__device__ inline float abs(float x) { return ::fabsf(x); }

__device__ inline float fma(float a, float b, float c) { return ::fmaf(a, b, c); }

// Arithmetic is f32; other types are only loaded, converted (round to nearest even) and stored.
using Bf16 = __nv_bfloat16;
using Half = __half;
__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(Bf16 x) { return __bfloat162float(x); }
__device__ inline float to_float(Half x) { return __half2float(x); }
template <class T>
__device__ T from_float(float x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return __float2bfloat16_rn(x);
  } else if constexpr (std::is_same_v<T, Half>) {
    return __float2half_rn(x);
  } else {
    static_assert(std::is_same_v<T, float>);
    return x;
  }
}

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T value[4];
};

template <int N, class T>
__device__ void load(const T* p, float* v) {
  static_assert(N == 1 || N == 4);
  if constexpr (N == 1) {
    v[0] = to_float(p[0]);
  } else {
    const auto four = ld_vec<Four<T>>(p);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = to_float(four.value[k]);
  }
}
template <int N, class T>
__device__ void store(T* p, const float* v) {
  static_assert(N == 1 || N == 4);
  if constexpr (N == 1) {
    p[0] = from_float<T>(v[0]);
  } else {
    Four<T> four;
#pragma unroll
    for (int k = 0; k < 4; ++k) four.value[k] = from_float<T>(v[k]);
    st_vec(p, four);
  }
}

// The device's type for a storage type of core/dtype.h: same bits.
template <class T>
struct NativeOf {
  using Type = T;
};
template <>
struct NativeOf<deepflow::BF16> {
  using Type = Bf16;
};
template <>
struct NativeOf<deepflow::F16> {
  using Type = Half;
};
template <class T>
using Native = typename NativeOf<T>::Type;
template <class T>
Native<T>* native(T* p) {
  return reinterpret_cast<Native<T>*>(p);
}
template <class T>
const Native<T>* native(const T* p) {
  return reinterpret_cast<const Native<T>*>(p);
}

// Whether load<4> and store<4> may be used on all of these.
template <class... T>
bool aligned_for_four(const T*... p) {
  return ((reinterpret_cast<uintptr_t>(p) % (4 * sizeof(T)) == 0) && ...);
}

// Sum over the 32 lanes, the same bits in each.
__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) v += shuffle_xor(v, distance);
  return v;
}

// Sum over a one-dimensional block of kThreads, the same bits in each thread. Starts and ends with a barrier's worth
// of order: may be called again at once.
template <int kThreads>
__device__ float block_sum(float v) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  constexpr int kWarps = kThreads / 32;
  DEV_SHARED(float, partial, kWarps);
  v = warp_sum(v);
  sync_block();  // partial may still be read for the previous sum
  if (lane() == 0) partial[threadIdx.x / 32] = v;
  sync_block();
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += partial[w];
  return sum;
}

}  // namespace dev

// Starts kernel<<<grid, block, shared_bytes, stream>>>(arguments...); sets the attribute that more than 48 KiB of
// shared memory need. Parameters go by value: trivially copyable, 4 KiB together.
template <class... P, class... A>
cudaError_t dev_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                       A&&... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...) && (!std::is_reference_v<P> && ...));
  static_assert((sizeof(P) + ... + 0) <= 4096);
  if (shared_bytes > (48 << 10)) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return dev::detail::launch(config, kernel, std::forward<A>(arguments)...);
}
