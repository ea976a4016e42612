#pragma once

#include "checkpoint/blockstore/tensor_reader.h"

#include <cstdint>
#include <limits>
#include <span>

namespace deepflow {

// Of the finite elements, and how many there are of the others.
struct ValueStatistics {
  int64_t elements = 0, nan = 0, infinite = 0, zeros = 0;
  double min = std::numeric_limits<double>::infinity(), max = -min;
  double mean = 0;
  double spread = 0;  // sum of the squares of what elements differ from their mean
  int64_t finite() const { return elements - nan - infinite; }
  double deviation() const;  // standard, of all elements: spread / n

  void add(std::span<const char> values, DType dtype);
};

// Of a whole tensor, which is read in parts; of a sum, of the total.
ValueStatistics value_statistics(TensorReader& reader, const StoredTensor& tensor);

}  // namespace deepflow
