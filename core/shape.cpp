#include "core/shape.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {

Shape::Shape(std::initializer_list<int64_t> dims) {
  for (int64_t d : dims) push_back(d);
}

void Shape::push_back(int64_t extent) {
  DF_ASSERT(num_dims_ < kMaxDims && extent >= 0);
  dims_[static_cast<size_t>(num_dims_++)] = extent;
}

int64_t Shape::num_elements() const {
  int64_t n = 1;
  for (int64_t d : *this) n *= d;
  return n;
}

int64_t Shape::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < num_dims_; ++i) n *= (*this)[i];
  return n;
}

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(begin(), end(), ", ")); }

bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

}  // namespace deepflow
