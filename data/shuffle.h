#pragma once

#include <array>
#include <cstdint>

namespace deepflow {

// A keyed permutation of [0, n) that needs no memory: a Feistel network over the next power of four, walked until it
// lands inside (Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002). A shuffle's state is therefore
// the position alone. Pure integer arithmetic: the same on every machine. Fewer than 4 rounds of the network expected.
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key);  // n > 0

  uint64_t size() const { return n_; }
  uint64_t operator()(uint64_t i) const;
  uint64_t inverse(uint64_t i) const;

 private:
  static constexpr int kRounds = 6;
  uint64_t round(int r, uint64_t half) const;
  uint64_t n_;
  int half_bits_;
  uint64_t half_mask_;
  std::array<uint64_t, kRounds> keys_;
};

// One 64-bit key out of several numbers, such as (seed, store, epoch); any change changes about half of its bits.
uint64_t shuffle_key(uint64_t a, uint64_t b, uint64_t c);

}  // namespace deepflow
