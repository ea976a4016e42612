#include "kernels/cpu/adafactor.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

void add_squares(const float* g, float scale, float* sums, int64_t n) {
  const F32 factor = splat(scale);
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 x = load(g + j, lanes) * factor;
    store(sums + j, fma(x, x, load(sums + j, lanes)), lanes);
  });
}

float factored_direction(float row, const float* col, float* g, int64_t n) {
  const F32 of_row = splat(row);
  ChainedSum sum;
  for_each_chained_vector(n, [&](int64_t j, auto lanes, int chain) {
    const F32 u = load(g + j, lanes) * of_row * load(col + j, lanes);
    sum.part[chain] = fma(u, u, sum.part[chain]);
    store(g + j, u, lanes);
  });
  return sum.total();
}

float vector_direction(float one_minus_beta2, float scale, float eps, float* v, float* g, int64_t n) {
  const F32 weight = splat(one_minus_beta2), factor = splat(scale), least = splat(eps);
  ChainedSum sum;
  for_each_chained_vector(n, [&](int64_t j, auto lanes, int chain) {
    const F32 x = load(g + j, lanes) * factor, old = load(v + j, lanes);
    const F32 moment = fma(fma(x, x, least) - old, weight, old);
    // Lanes behind a tail have gradient and moment 0, and v = weight eps is not.
    const F32 u = x / sqrt(moment);
    const F32 there = select(x == zero(), zero(), u);
    sum.part[chain] = fma(there, there, sum.part[chain]);
    store(v + j, moment, lanes);
    store(g + j, there, lanes);
  });
  return sum.total();
}

}  // namespace deepflow::cpu::DF_ISA
