#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace deepflow {

// Extents of a dense row-major tensor, at most kMaxDims of them. A scalar has no dims and one element.
class Shape {
 public:
  static constexpr int kMaxDims = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  template <class It>
  Shape(It first, It last) {
    for (; first != last; ++first) push_back(*first);
  }

  int num_dims() const { return num_dims_; }
  int64_t operator[](int dim) const { return dims_[static_cast<size_t>(dim)]; }
  int64_t& operator[](int dim) { return dims_[static_cast<size_t>(dim)]; }
  int64_t back() const { return dims_[static_cast<size_t>(num_dims_ - 1)]; }
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + num_dims_; }

  int64_t num_elements() const;
  // As a matrix: all dims but the last are rows. A scalar or vector has one row.
  int64_t rows() const;
  int64_t cols() const { return num_dims_ == 0 ? 1 : back(); }

  void push_back(int64_t extent);
  std::string to_string() const;  // "[4, 256, 768]"
  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxDims> dims_{};
  int num_dims_ = 0;
};

}  // namespace deepflow
