#include "parallel/collective_reduce.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kBlock = 2048;  // the accumulator stays in the first cache level

float load(float x) { return x; }
float load(BF16 x) { return to_float(x); }
float load(F16 x) { return to_float(x); }
int64_t load(int32_t x) { return x; }
int64_t load(int64_t x) { return x; }

void store(float x, float& out) { out = x; }
void store(float x, BF16& out) { out = to_bf16(x); }
void store(float x, F16& out) { out = to_f16(x); }
void store(int64_t x, int32_t& out) { out = static_cast<int32_t>(x); }
void store(int64_t x, int64_t& out) { out = x; }

template <class A>
A combine(A a, A b, ReduceOp op) {
  if (op == ReduceOp::kSum) return a + b;
  return b > a || b != b ? b : a;
}

template <class T, ReduceOp Op>
void reduce_typed(std::span<const void* const> sources, T* target, int64_t count) {
  using A = decltype(load(T{}));
  A sum[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* first = static_cast<const T*>(sources[0]) + begin;
    for (int64_t i = 0; i < n; ++i) sum[i] = load(first[i]);
    for (const void* source : sources.subspan(1)) {
      const T* x = static_cast<const T*>(source) + begin;
      for (int64_t i = 0; i < n; ++i) sum[i] = combine(sum[i], load(x[i]), Op);
    }
    for (int64_t i = 0; i < n; ++i) store(sum[i], target[begin + i]);
  }
}

template <class T>
void reduce_with(std::span<const void* const> sources, void* target, int64_t count, ReduceOp op) {
  T* out = static_cast<T*>(target);
  if (op == ReduceOp::kSum) return reduce_typed<T, ReduceOp::kSum>(sources, out, count);
  reduce_typed<T, ReduceOp::kMax>(sources, out, count);
}

}  // namespace

bool is_reducible(DType dtype) { return dtype != DType::kU8; }

void reduce_in_order(std::span<const void* const> sources, void* target, int64_t count, DType dtype, ReduceOp op) {
  DF_ASSERT(!sources.empty() && is_reducible(dtype));
  switch (dtype) {
    case DType::kF32:
      return reduce_with<float>(sources, target, count, op);
    case DType::kBF16:
      return reduce_with<BF16>(sources, target, count, op);
    case DType::kF16:
      return reduce_with<F16>(sources, target, count, op);
    case DType::kI32:
      return reduce_with<int32_t>(sources, target, count, op);
    case DType::kI64:
      return reduce_with<int64_t>(sources, target, count, op);
    case DType::kU8:
      break;
  }
}

}  // namespace deepflow
