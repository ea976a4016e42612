#include "kernels/ops/adamw_8bit.h"

#include "core/error.h"

#include <bit>
#include <cmath>
#include <limits>

namespace deepflow {
namespace {

constexpr int kDecades = 7;

// Magnitudes in order: 0, in each decade the middles of equal parts of [0.1, 1], and 1.
std::vector<double> magnitudes(bool has_sign) {
  std::vector<double> values = {0};
  for (int i = 0; i < kDecades; ++i) {
    const int parts = has_sign ? 1 << i : 2 << i;
    for (int k = 0; k < parts; ++k)
      values.push_back(std::pow(10.0, i + 1 - kDecades) * (0.1 + 0.9 * (k + 0.5) / parts));
  }
  values.push_back(1);
  return values;
}

}  // namespace

DynamicMap::DynamicMap(bool has_sign) {
  const std::vector<double> values = magnitudes(has_sign);
  const size_t largest = values.size() - 1;
  for (size_t k = 0; k <= largest; ++k) value_[k] = static_cast<float>(values[k]);
  for (size_t code = largest + 1; code < value_.size(); ++code) value_[code] = -value_[code - largest];
  for (size_t k = 0; k < largest; ++k) middle_.push_back(static_cast<float>((values[k] + values[k + 1]) / 2));
  middle_.push_back(std::numeric_limits<float>::infinity());
  size_t code = 0;
  for (uint32_t cell = 0; cell < cpu::kCoarse; ++cell) {
    // The first cell also has everything below it.
    const float least = cell == 0 ? 0 : std::bit_cast<float>((cell + cpu::kFirstCell) << 16);
    while (least >= middle_[code]) ++code;
    coarse_[cell] = static_cast<uint8_t>(code);
    const float next = std::bit_cast<float>((cell + cpu::kFirstCell + 1) << 16);
    DF_ASSERT(code == largest || !(middle_[code + 1] < next), "two middles in cell {}", cell);
  }
  map_ = {value_.data(), middle_.data(), coarse_.data(), static_cast<int>(largest), has_sign};
}

void Adamw8bitBlock::operator()(float* master, const cpu::QuantisedMoments& moments, const float* gradient,
                                int64_t n) const {
  DF_ASSERT(n <= cpu::kLargestBlock, "a block of {}", n);
  DF_KERNEL(isa_, adamw_8bit)(constants_, first_, second_, master, moments, gradient, n);
}

}  // namespace deepflow
