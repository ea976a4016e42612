#pragma once

#include "checkpoint/blockstore/tensor_reader.h"

#include <map>
#include <vector>

namespace deepflow {

// A tensor read from the first element to the last, a few MB at a time, however it was cut when it was written.

inline constexpr int64_t kPartElements = int64_t{1} << 22;

Box whole_box(const Shape& shape);
std::vector<Box> parts_of(const StoredTensor& tensor);  // row-major, together the whole tensor
// What each contributor has of a tensor, in their order: all of it, but for sums over experts; of 0 alone but for sums.
std::map<int, std::vector<Box>> boxes_of_contributors(const StoredTensor& tensor);
std::vector<Box> common_boxes(const std::vector<Box>& a, const std::vector<Box>& b);

// The values of one part; of a sum the total of all contributors. Resizes `out`.
void read_part(TensorReader& reader, const StoredTensor& tensor, const Box& part, std::vector<char>& out);

// An element of any dtype as a number; of 64-bit integers the nearest.
double number_at(const char* values, DType dtype, int64_t element);

}  // namespace deepflow
