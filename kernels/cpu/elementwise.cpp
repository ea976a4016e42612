#include "kernels/cpu/elementwise.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

// f(p) with p of the type that `dtype` names.
template <class F>
DF_SIMD void with_type(void* p, DType dtype, F&& f) {
  if (dtype == DType::kF32)
    f(static_cast<float*>(p));
  else if (dtype == DType::kBF16)
    f(static_cast<BF16*>(p));
  else
    f(static_cast<F16*>(p));
}
template <class F>
DF_SIMD void with_type(const void* p, DType dtype, F&& f) {
  if (dtype == DType::kF32)
    f(static_cast<const float*>(p));
  else if (dtype == DType::kBF16)
    f(static_cast<const BF16*>(p));
  else
    f(static_cast<const F16*>(p));
}

struct F64Sum {
#ifdef __AVX512F__
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  DF_SIMD void add_square(F32 x) {
    const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(x.v)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1));
    low = _mm512_fmadd_pd(a, a, low);
    high = _mm512_fmadd_pd(b, b, high);
  }
  DF_SIMD double total() const { return _mm512_reduce_add_pd(_mm512_add_pd(low, high)); }
#else
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  DF_SIMD void add_square(F32 x) {
    const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(x.v)), b = _mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1));
    low = _mm256_fmadd_pd(a, a, low);
    high = _mm256_fmadd_pd(b, b, high);
  }
  DF_SIMD double total() const {
    double lanes[4];
    _mm256_storeu_pd(lanes, _mm256_add_pd(low, high));
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
  }
#endif
};

}  // namespace

void convert(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t n) {
  with_type(from, from_dtype, [&](auto* x) {
    with_type(to, to_dtype, [&](auto* y) {
      for_each_vector(n, [&](int64_t j, auto lanes) { store(y + j, load(x + j, lanes), lanes); });
    });
  });
}

void accumulate(void* into, DType into_dtype, const void* x, DType x_dtype, int64_t n) {
  with_type(into, into_dtype, [&](auto* y) {
    with_type(x, x_dtype, [&](auto* z) {
      for_each_vector(n, [&](int64_t j, auto lanes) { store(y + j, load(y + j, lanes) + load(z + j, lanes), lanes); });
    });
  });
}

void scale(void* x, DType dtype, int64_t n, float factor) {
  const F32 f = splat(factor);
  with_type(x, dtype, [&](auto* y) {
    for_each_vector(n, [&](int64_t j, auto lanes) { store(y + j, load(y + j, lanes) * f, lanes); });
  });
}

void fill(void* x, DType dtype, int64_t n, float value) {
  const F32 f = splat(value);
  with_type(x, dtype, [&](auto* y) { for_each_vector(n, [&](int64_t j, auto lanes) { store(y + j, f, lanes); }); });
}

double sum_squares(const float* x, int64_t n) {
  F64Sum even, odd;
  int64_t j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
    even.add_square(load(x + j));
    odd.add_square(load(x + j + kLanes));
  }
  for_each_vector(n - j, [&](int64_t k, auto lanes) { even.add_square(load(x + j + k, lanes)); });
  return even.total() + odd.total();
}

bool all_finite(const void* x, DType dtype, int64_t n) {
  bool finite = true;
  with_type(x, dtype, [&](auto* y) {
    F32 poison = zero();  // becomes NaN with the first infinity or NaN
    for_each_vector(n, [&](int64_t j, auto lanes) { poison = fma(load(y + j, lanes), zero(), poison); });
    finite = !any(is_nan(poison));
  });
  return finite;
}

}  // namespace deepflow::cpu::DF_ISA
