#include "checkpoint/blockstore/value_statistics.h"

#include "checkpoint/blockstore/tensor_parts.h"

#include <algorithm>
#include <cmath>

namespace deepflow {

double ValueStatistics::deviation() const {
  return finite() > 0 ? std::sqrt(spread / static_cast<double>(finite())) : 0;
}

// Two passes over the part; then means and spreads are put together as Chan, Golub and LeVeque 1979 do.
void ValueStatistics::add(std::span<const char> values, DType dtype) {
  const auto n = static_cast<int64_t>(values.size() / size_of(dtype));
  const int64_t before = finite();
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double x = number_at(values.data(), dtype, i);
    ++elements;
    if (std::isnan(x)) {
      ++nan;
    } else if (std::isinf(x)) {
      ++infinite;
    } else {
      zeros += x == 0 ? 1 : 0;
      sum += x;
      min = std::min(min, x);
      max = std::max(max, x);
    }
  }
  const int64_t added = finite() - before;
  if (added == 0) return;
  const double part_mean = sum / static_cast<double>(added);
  double part_spread = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double x = number_at(values.data(), dtype, i);
    if (std::isfinite(x)) part_spread += (x - part_mean) * (x - part_mean);
  }
  const double delta = part_mean - mean, share = static_cast<double>(added) / static_cast<double>(finite());
  mean += delta * share;
  spread += part_spread + delta * delta * static_cast<double>(before) * share;
}

ValueStatistics value_statistics(TensorReader& reader, const StoredTensor& tensor) {
  ValueStatistics statistics;
  std::vector<char> values;
  for (const Box& part : parts_of(tensor)) {
    read_part(reader, tensor, part, values);
    statistics.add(values, tensor.dtype);
  }
  return statistics;
}

}  // namespace deepflow
