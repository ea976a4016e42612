#pragma once

#include "checkpoint/blockstore/tensor_reader.h"

#include <vector>

namespace deepflow {

// A tensor read from the first element to the last, a few MB at a time, however it was cut when it was written.

inline constexpr int64_t kPartElements = int64_t{1} << 22;

Box whole_box(const Shape& shape);
std::vector<Box> parts_of(const StoredTensor& tensor);         // row-major, together the whole tensor
std::vector<int> contributors_of(const StoredTensor& tensor);  // in order; {0} but for sums

// The values of one part; of a sum the total of all contributors. Resizes `out`.
void read_part(TensorReader& reader, const StoredTensor& tensor, const Box& part, std::vector<char>& out);

// An element of any dtype as a number; of 64-bit integers the nearest.
double number_at(const char* values, DType dtype, int64_t element);

}  // namespace deepflow
