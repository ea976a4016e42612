#include "core/random.h"

#include <cmath>
#include <numbers>

namespace deepflow {

RandomSite random_site(uint64_t seed, std::string_view name, uint64_t step) {
  uint64_t hash = 0xcbf29ce484222325ull ^ seed;  // FNV-1a over the name, mixed with the seed
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
  const auto words = philox(seed, hash, name.size());
  return {uint64_t{words[0]} | uint64_t{words[1]} << 32, step};
}

float random_uniform(const RandomSite& site, int64_t row, int64_t column) {
  return to_uniform(random_words(site, row, column / 4)[static_cast<size_t>(column % 4)]);
}

float random_normal(const RandomSite& site, int64_t row, int64_t column) {
  const auto words = random_words(site, row, column / 4);
  const size_t pair = static_cast<size_t>(column % 4) / 2 * 2;
  const double u = (static_cast<double>(words[pair]) + 0.5) * 0x1p-32;
  const double angle = 2 * std::numbers::pi * (static_cast<double>(words[pair + 1]) * 0x1p-32);
  const double radius = std::sqrt(-2 * std::log(u));
  return static_cast<float>(radius * (column % 2 == 0 ? std::cos(angle) : std::sin(angle)));
}

}  // namespace deepflow
