#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace deepflow {

// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// A number is a pure function of (seed, site name, step or sample, logical row, logical column): never of a rank, a
// thread or the order of calls.
struct RandomSite {
  uint64_t key = 0;   // seed and site name
  uint64_t step = 0;  // step, sample or epoch
};

RandomSite random_site(uint64_t seed, std::string_view name, uint64_t step = 0);

[[gnu::always_inline]] inline std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_lo, uint64_t counter_hi) {
  uint32_t c0 = static_cast<uint32_t>(counter_lo), c1 = static_cast<uint32_t>(counter_lo >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_hi), c3 = static_cast<uint32_t>(counter_hi >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

// Four words for columns 4*column_block .. 4*column_block + 3 of a logical row.
[[gnu::always_inline]] inline std::array<uint32_t, 4> random_words(const RandomSite& site, int64_t row,
                                                                   int64_t column_block) {
  // The column fits 24 bits of the counter's high half in any model; the step takes the other 40.
  return philox(site.key, static_cast<uint64_t>(row), (site.step << 24) ^ static_cast<uint64_t>(column_block));
}

// In [0, 1), a multiple of 2^-24.
[[gnu::always_inline]] inline float to_uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

float random_uniform(const RandomSite& site, int64_t row, int64_t column);
float random_normal(const RandomSite& site, int64_t row, int64_t column);  // Box-Muller over column pairs
// The same numbers, of columns 4*column_block .. 4*column_block + 3.
std::array<float, 4> random_normals(const RandomSite& site, int64_t row, int64_t column_block);

}  // namespace deepflow
