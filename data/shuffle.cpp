#include "data/shuffle.h"

#include "core/error.h"

#include <algorithm>
#include <bit>

namespace deepflow {
namespace {

// splitmix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

}  // namespace

uint64_t shuffle_key(uint64_t a, uint64_t b, uint64_t c) {
  return mix(mix(mix(a + kGolden) + b + kGolden) + c + kGolden);
}

Permutation::Permutation(uint64_t n, uint64_t key) : n_(n) {
  DF_ASSERT(n > 0 && n <= uint64_t{1} << 62, "a permutation of {}", n);
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(n - 1)) + 1) / 2);
  half_mask_ = (uint64_t{1} << half_bits_) - 1;
  for (int r = 0; r < kRounds; ++r) keys_[r] = mix(key += kGolden);
}

uint64_t Permutation::round(int r, uint64_t half) const { return mix(half + keys_[r]) & half_mask_; }

uint64_t Permutation::operator()(uint64_t i) const {
  DF_ASSERT(i < n_, "position {} of {}", i, n_);
  do {
    uint64_t left = i >> half_bits_, right = i & half_mask_;
    for (int r = 0; r < kRounds; ++r) {
      const uint64_t next = left ^ round(r, right);
      left = right;
      right = next;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

uint64_t Permutation::inverse(uint64_t i) const {
  DF_ASSERT(i < n_, "position {} of {}", i, n_);
  do {
    uint64_t left = i >> half_bits_, right = i & half_mask_;
    for (int r = kRounds - 1; r >= 0; --r) {
      const uint64_t before = right ^ round(r, left);
      right = left;
      left = before;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

}  // namespace deepflow
