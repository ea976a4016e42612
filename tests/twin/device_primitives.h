#pragma once

#include "tests/twin/kernel_interface.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

// The host half of kernels/cuda/device.cuh: the same names as its GPU half, on the emulator. Raw CUDA intrinsics are
// not declared here on purpose: a kernel that uses one does not compile.
#undef __shared__
#define __shared__ use_DEV_SHARED_instead
#undef __constant__
#define __constant__ constant_memory_is_not_allowed
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

// Written by the executor before a thread runs. const: no thread sees them change, and reads stay unchecked.
extern const uint3 threadIdx, blockIdx, blockDim, gridDim;

#define DEV_SHARED(T, name, n)                                                             \
  T(&name)                                                                                 \
  [n] = *[]() -> T(*)[n] {                                                                 \
    static const char key = 0;                                                             \
    return static_cast<T(*)[n]>(::twin::static_shared(&key, sizeof(T) * (n), alignof(T))); \
  }()
#define DEV_DYN_SHARED(T, name) T* name = static_cast<T*>(::twin::dynamic_shared())

namespace dev {

using ::twin::Place;

inline void sync_block(Place place = Place::current()) { ::twin::wait_at_barrier(place); }

inline void sync_warp(Place place = Place::current()) {
  ::twin::WarpCall call{::twin::WarpOperation::kSync, place};
  ::twin::wait_in_warp(call);
}

template <class T>
T shuffle(T value, int lane, Place place = Place::current()) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  ::twin::WarpCall call{::twin::WarpOperation::kShuffle, place};
  std::memcpy(&call.value, &value, sizeof(T));
  call.source = static_cast<unsigned>(lane) & 31;
  ::twin::wait_in_warp(call);
  std::memcpy(&value, &call.result, sizeof(T));
  return value;
}

inline int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31);
}

template <class T>
T shuffle_xor(T value, int mask, Place place = Place::current()) {
  return shuffle(value, lane() ^ mask, place);
}
template <class T>
T shuffle_up(T value, int distance, Place place = Place::current()) {
  return shuffle(value, lane() < distance ? lane() : lane() - distance, place);
}
template <class T>
T shuffle_down(T value, int distance, Place place = Place::current()) {
  return shuffle(value, lane() + distance > 31 ? lane() : lane() + distance, place);
}

inline uint32_t ballot(bool predicate, Place place = Place::current()) {
  ::twin::WarpCall call{::twin::WarpOperation::kBallot, place};
  call.value = predicate;
  ::twin::wait_in_warp(call);
  return static_cast<uint32_t>(call.result);
}

inline void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, Place place = Place::current()) {
  ::twin::WarpCall call{::twin::WarpOperation::kMma, place};
  call.d = d;
  call.a = a;
  call.b = b;
  ::twin::wait_in_warp(call);
}

namespace detail {
template <class T>
T atomic(T* p, ::twin::AtomicOperation operation, T operand) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "no floating-point atomics");
  return static_cast<T>(
      ::twin::atomic_update(p, sizeof(T), operation, std::is_signed_v<T>, static_cast<uint64_t>(operand)));
}
}  // namespace detail

template <class T>
T atomic_add(T* p, std::type_identity_t<T> v) {
  return detail::atomic(p, ::twin::AtomicOperation::kAdd, v);
}
template <class T>
T atomic_max(T* p, std::type_identity_t<T> v) {
  return detail::atomic(p, ::twin::AtomicOperation::kMax, v);
}
template <class T>
T atomic_min(T* p, std::type_identity_t<T> v) {
  return detail::atomic(p, ::twin::AtomicOperation::kMin, v);
}
template <class T>
T atomic_or(T* p, std::type_identity_t<T> v) {
  return detail::atomic(p, ::twin::AtomicOperation::kOr, v);
}

template <class V, class T>
V ld_vec(const T* p) {
  static_assert(std::is_trivially_copyable_v<V>);
  ::twin::check_vector(p, sizeof(V));
  return *reinterpret_cast<const V*>(p);
}
template <class T, class V>
void st_vec(T* p, V value) {
  static_assert(std::is_trivially_copyable_v<V>);
  ::twin::check_vector(p, sizeof(V));
  *reinterpret_cast<V*>(p) = value;
}

inline float rsqrt(float x) { return 1.0f / ::sqrtf(x); }
inline int count_bits(uint32_t x) { return __builtin_popcount(x); }
inline int leading_zeros(uint32_t x) { return x ? __builtin_clz(x) : 32; }
inline uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float float_of(uint32_t x) { return __builtin_bit_cast(float, x); }

namespace detail {
template <class... P>
class BoundKernel final : public ::twin::KernelCall {
 public:
  BoundKernel(void (*kernel)(P...), P... parameters) : kernel_(kernel), parameters_(parameters...) {
    bytes = sizeof *this;
  }
  void run() override { std::apply(kernel_, parameters_); }

 private:
  void (*kernel_)(P...);
  std::tuple<P...> parameters_;
};

template <class... P, class... A>
cudaError_t launch(const cudaLaunchConfig_t& config, void (*kernel)(P...), A&&... arguments) {
  return ::twin::launch(config, reinterpret_cast<const void*>(kernel),
                        std::make_unique<BoundKernel<P...>>(kernel, std::forward<A>(arguments)...));
}
}  // namespace detail

}  // namespace dev
