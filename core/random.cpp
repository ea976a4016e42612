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
  return random_normals(site, row, column / 4)[static_cast<size_t>(column % 4)];
}

std::array<float, 4> random_normals(const RandomSite& site, int64_t row, int64_t column_block) {
  const auto words = random_words(site, row, column_block);
  std::array<float, 4> normals;
  for (size_t pair = 0; pair < 4; pair += 2) {
    const double u = (static_cast<double>(words[pair]) + 0.5) * 0x1p-32;
    const double angle = 2 * std::numbers::pi * (static_cast<double>(words[pair + 1]) * 0x1p-32);
    const double radius = std::sqrt(-2 * std::log(u));
    normals[pair] = static_cast<float>(radius * std::cos(angle));
    normals[pair + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return normals;
}

}  // namespace deepflow
