#pragma once

#include "core/autograd.h"

#include <cstdint>
#include <memory>

namespace deepflow {

// What a product keeps of its input until its weight gradient: the tensor or, where the input carries one, the recipe
// that makes it again.
class KeptInput {
 public:
  explicit KeptInput(const Var& x)
      : shape_{x.value.rows(), x.value.cols()},
        dtype_(x.value.dtype()),
        value_(x.recipe ? Tensor() : x.value),
        recipe_(x.recipe) {}

  int64_t rows() const { return shape_[0]; }
  int64_t cols() const { return shape_[1]; }
  DType dtype() const { return dtype_; }
  // The input, bit for bit; made anew by each call where there is a recipe.
  Tensor get(Runtime& runtime) const { return recipe_ ? recipe_->make(runtime) : value_; }
  // When the weight gradient reads something else: only the extents stay.
  void drop() {
    value_ = {};
    recipe_ = nullptr;
  }

 private:
  Shape shape_;
  DType dtype_;
  Tensor value_;
  std::shared_ptr<const Rematerial> recipe_;
};

}  // namespace deepflow
