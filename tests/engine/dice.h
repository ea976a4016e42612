#pragma once

#include "core/error.h"
#include "core/random.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

namespace deepflow::testing {

// What a test draws: the same throws for the same seed, name, number and index, everywhere.
class Dice {
 public:
  Dice(uint64_t seed, std::string_view name, int64_t index, int number)
      : site_(random_site(seed, name, static_cast<uint64_t>(number))), index_(index) {}
  int64_t below(int64_t n) {
    return std::min<int64_t>(n - 1,
                             static_cast<int64_t>(random_uniform(site_, index_, throws_++) * static_cast<float>(n)));
  }
  bool coin() { return below(2) == 1; }
  template <class T>
  T one_of(const std::vector<T>& choices) {
    DF_ASSERT(!choices.empty());
    return choices[static_cast<size_t>(below(static_cast<int64_t>(choices.size())))];
  }
  // One of the choices that will do.
  template <class T, class F>
  T one_that(std::vector<T> choices, F&& will_do) {
    choices.erase(std::remove_if(choices.begin(), choices.end(), [&](const T& c) { return !will_do(c); }),
                  choices.end());
    return one_of(choices);
  }

 private:
  RandomSite site_;
  int64_t index_, throws_ = 0;
};

}  // namespace deepflow::testing
