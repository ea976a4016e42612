#include "tests/bench/machine_rates.h"

#include "tests/bench/bench_store.h"

#include <immintrin.h>

#include <algorithm>
#include <functional>

namespace deepflow {
namespace {

constexpr int64_t kElements = 24 << 20;  // f32; a buffer is beyond any cache
constexpr int kChains = 24;              // FMAs under way at once
constexpr int64_t kFmaRounds = 1'000'000;

__attribute__((target("avx512f"))) float fma_512() {
  __m512 sum[kChains];
  for (auto& s : sum) s = _mm512_set1_ps(1);
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < kFmaRounds; ++i)
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) sum[c] = _mm512_fmadd_ps(sum[c], a, b);
  __m512 total = sum[0];
  for (int c = 1; c < kChains; ++c) total = _mm512_add_ps(total, sum[c]);
  return _mm512_reduce_add_ps(total);
}

__attribute__((target("avx2,fma"))) float fma_256() {
  constexpr int kRegisters = 12;
  __m256 sum[kRegisters];
  for (auto& s : sum) s = _mm256_set1_ps(1);
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < kFmaRounds * kChains / kRegisters; ++i)
#pragma GCC unroll 12
    for (int c = 0; c < kRegisters; ++c) sum[c] = _mm256_fmadd_ps(sum[c], a, b);
  float lanes[8], total = 0;
  for (auto& s : sum) {
    _mm256_storeu_ps(lanes, s);
    total += lanes[0];
  }
  return total;
}

double best(int repeats, const std::function<void()>& f) {
  double seconds = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const double begin = seconds_now();
    f();
    seconds = std::min(seconds, seconds_now() - begin);
  }
  return seconds;
}

}  // namespace

double MachineRates::bandwidth() const { return std::max({read, update, copy}); }

MachineRates measure_rates(Runtime& runtime) {
  Tensor a = Tensor::empty(runtime.memory(), {kElements}, DType::kF32);
  Tensor b = Tensor::empty(runtime.memory(), {kElements}, DType::kF32);
  fill(runtime, a, 1);
  fill(runtime, b, 1);
  const double bytes = static_cast<double>(kElements) * 4;
  MachineRates rates{};
  rates.read = bytes / best(5, [&] { all_finite(runtime, a); });
  rates.update = 2 * bytes / best(5, [&] { scale(runtime, a, 1.0f); });
  rates.copy = 3 * bytes / best(5, [&] { copy(runtime, a, b); });
  const bool wide = runtime.isa() != CpuIsa::kAvx2;
  const double seconds = best(5, [&] {
    runtime.pool().run([&](int, int) {
      volatile float keep = wide ? fma_512() : fma_256();
      static_cast<void>(keep);
    });
  });
  rates.fma_issue = static_cast<double>(kFmaRounds * kChains * runtime.pool().size()) / seconds;
  return rates;
}

}  // namespace deepflow
