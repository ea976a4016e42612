#include "tests/bench/machine_rates.h"

#include "tests/bench/bench_store.h"

#include <immintrin.h>

namespace deepflow {
namespace {

constexpr int64_t kElements = 24 << 20;  // f32; beyond any cache
constexpr int kChains = 24;              // FMAs under way at once
constexpr int64_t kFmaRounds = 200'000;

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

// Streams that the processor prefetches side by side, and software prefetch on top.
__attribute__((target("avx2,fma"))) float read_all(const float* x, int64_t n) {
  constexpr int kStreams = 4, kAhead = 256;
  __m256 sum[2 * kStreams];
  for (auto& s : sum) s = _mm256_setzero_ps();
  const int64_t part = n / kStreams / 16 * 16;
  for (int64_t i = 0; i < part; i += 16)
    for (int k = 0; k < kStreams; ++k) {
      const float* p = x + k * part + i;
      __builtin_prefetch(p + kAhead);
      sum[2 * k] = _mm256_add_ps(sum[2 * k], _mm256_loadu_ps(p));
      sum[2 * k + 1] = _mm256_add_ps(sum[2 * k + 1], _mm256_loadu_ps(p + 8));
    }
  for (int k = 1; k < 2 * kStreams; ++k) sum[0] = _mm256_add_ps(sum[0], sum[k]);
  return _mm256_cvtss_f32(sum[0]);
}

}  // namespace

RateProbe::RateProbe(Runtime& runtime)
    : runtime_(runtime), buffer_(Tensor::empty(runtime.memory(), {kElements}, DType::kF32)) {
  fill(runtime, buffer_, 1);
}

MachineRates RateProbe::measure() {
  const double bytes = static_cast<double>(kElements) * 4;
  const float* x = buffer_.data<float>();
  double begin = seconds_now();
  runtime_.pool().parallel_for(kElements, 4096, [&](int64_t first, int64_t end) {
    volatile float keep = read_all(x + first, end - first);
    static_cast<void>(keep);
  });
  const double read = seconds_now() - begin;
  begin = seconds_now();
  scale(runtime_, buffer_, 1.0f);
  const double update = seconds_now() - begin;
  const bool wide = runtime_.isa() != CpuIsa::kAvx2;
  begin = seconds_now();
  runtime_.pool().run([&](int, int) {
    volatile float keep = wide ? fma_512() : fma_256();
    static_cast<void>(keep);
  });
  const double fma = seconds_now() - begin;
  return {bytes / read, 2 * bytes / update, static_cast<double>(kFmaRounds * kChains * runtime_.pool().size()) / fma};
}

}  // namespace deepflow
