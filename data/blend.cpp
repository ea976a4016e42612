#include "data/blend.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deepflow {
namespace {

constexpr int kShareBits = 32;

// round(n * share), without a rounding error and without overflow.
int64_t part(int64_t n, uint64_t share) {
  __extension__ typedef unsigned __int128 Wide;
  const Wide product = static_cast<Wide>(n) * share + (uint64_t{1} << (kShareBits - 1));
  return static_cast<int64_t>(product >> kShareBits);
}

}  // namespace

Blend::Blend(const std::vector<double>& weights)
    : num_sources_(static_cast<int>(weights.size())), share_(weights.size(), 0) {
  if (weights.empty()) throw ConfigError("data.train: a blend needs at least one store");
  for (const double weight : weights) {
    if (!(weight > 0) || !std::isfinite(weight)) {
      throw ConfigError("data.train: weight {} of a store; weights are positive numbers", weight);
    }
  }
  struct Range {
    int first, last;
  };
  std::vector<Range> open = {{0, num_sources_}};
  while (!open.empty()) {
    const Range range = open.back();
    open.pop_back();
    if (range.last - range.first < 2) continue;
    const int middle = (range.first + range.last) / 2;
    const double left = std::accumulate(weights.begin() + range.first, weights.begin() + middle, 0.0);
    const double right = std::accumulate(weights.begin() + middle, weights.begin() + range.last, 0.0);
    share_[middle] = static_cast<uint64_t>(std::llround(std::ldexp(left / (left + right), kShareBits)));
    open.push_back({range.first, middle});
    open.push_back({middle, range.last});
  }
}

Blend::Place Blend::place(int64_t i) const {
  DF_ASSERT(i >= 0, "element {}", i);
  int first = 0, last = num_sources_;
  while (last - first > 1) {
    const int middle = (first + last) / 2;
    const int64_t left = part(i, share_[middle]);
    if (part(i + 1, share_[middle]) > left) {
      last = middle;
      i = left;
    } else {
      first = middle;
      i -= left;
    }
  }
  return {first, i};
}

int64_t Blend::count(int source, int64_t n) const {
  int first = 0, last = num_sources_;
  while (last - first > 1) {
    const int middle = (first + last) / 2;
    const int64_t left = part(n, share_[middle]);
    const bool goes_left = source < middle;
    n = goes_left ? left : n - left;
    (goes_left ? last : first) = middle;
  }
  return n;
}

}  // namespace deepflow
