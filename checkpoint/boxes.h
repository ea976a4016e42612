#pragma once

#include "core/parameter.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace deepflow {

// Arithmetic of boxes: half-open ranges per dim in logical coordinates (core/parameter.h). All boxes of one tensor
// have as many dims as its shape; a scalar's has none and holds one element.

std::optional<Box> intersection(const Box& a, const Box& b);
std::vector<Box> without(const Box& box, const Box& taken);  // what of `box` is not in `taken`, as disjoint boxes
std::vector<Box> without(const std::vector<Box>& boxes, const std::vector<Box>& taken);
int64_t num_elements(const std::vector<Box>& boxes);
// Parts of at most max_elements, cut along the first dims, so that each is one run of the box's values; a part is never
// smaller than one element.
std::vector<Box> cut(const Box& box, int64_t max_elements);

// A stretch of elements that lies in one run in the values of two lists of boxes, each stored one box behind another,
// row-major.
struct SharedRun {
  int64_t a, b;  // first element in either
  int64_t count;
};
void for_each_shared_run(const std::vector<Box>& a, const std::vector<Box>& b,
                         const std::function<void(const SharedRun&)>& f);

}  // namespace deepflow
