#include "core/tensor.h"

#include "core/error.h"

namespace deepflow {

Tensor Tensor::empty(Allocator& allocator, const Shape& shape, DType dtype) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = allocator.device();
  t.ld_ = shape.cols();
  t.data_ = allocator.allocate(t.num_bytes());
  t.storage_ = std::shared_ptr<void>(t.data_, [&allocator](void* p) { allocator.free(p); });
  return t;
}

Tensor Tensor::wrap(void* data, const Shape& shape, DType dtype, Device device, std::shared_ptr<void> owner) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = device;
  t.ld_ = shape.cols();
  t.data_ = data;
  t.storage_ = std::move(owner);
  return t;
}

void Tensor::check_dtype(DType asked) const {
  DF_ASSERT(asked == dtype_, "tensor is {}, not {}", name_of(dtype_), name_of(asked));
}

Tensor Tensor::view(const Shape& shape) const {
  DF_ASSERT(is_contiguous() && shape.num_elements() == num_elements(), "{} as {}", shape_.to_string(),
            shape.to_string());
  Tensor t = *this;
  t.shape_ = shape;
  t.ld_ = shape.cols();
  return t;
}

Tensor Tensor::row_range(int64_t begin, int64_t end) const {
  DF_ASSERT(0 <= begin && begin <= end && end <= rows(), "rows {}..{} of {}", begin, end, shape_.to_string());
  Tensor t = *this;
  t.shape_ = {end - begin, cols()};
  t.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin * ld_) * size_of(dtype_);
  return t;
}

Tensor Tensor::column_range(int64_t begin, int64_t end) const {
  DF_ASSERT(0 <= begin && begin <= end && end <= cols(), "columns {}..{} of {}", begin, end, shape_.to_string());
  Tensor t = *this;
  t.shape_ = {rows(), end - begin};
  t.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin) * size_of(dtype_);
  return t;
}

Tensor Tensor::flat_range(int64_t begin, int64_t end) const {
  DF_ASSERT(is_contiguous() && 0 <= begin && begin <= end && end <= num_elements());
  Tensor t = *this;
  t.shape_ = {end - begin};
  t.ld_ = end - begin;
  t.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin) * size_of(dtype_);
  return t;
}

}  // namespace deepflow
