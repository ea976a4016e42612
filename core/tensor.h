#pragma once

#include "core/device.h"
#include "core/dtype.h"
#include "core/memory.h"
#include "core/shape.h"

#include <memory>

namespace deepflow {

// A dense row-major array, or a matrix view whose rows are `ld` elements apart. Copies share the storage.
// Nothing else is strided: views are reshapes, ranges of leading rows and blocks of columns.
class Tensor {
 public:
  Tensor() = default;

  // Not initialised. The memory returns to `allocator`, which must outlive it, with the last copy.
  static Tensor empty(Allocator& allocator, const Shape& shape, DType dtype);
  // Over memory of somebody else, kept alive by `owner` (may be null).
  static Tensor wrap(void* data, const Shape& shape, DType dtype, Device device = {},
                     std::shared_ptr<void> owner = nullptr);

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int64_t num_elements() const { return shape_.num_elements(); }
  int64_t rows() const { return shape_.rows(); }
  int64_t cols() const { return shape_.cols(); }
  int64_t ld() const { return ld_; }  // elements from one row to the next
  bool is_contiguous() const { return ld_ == cols() || rows() <= 1; }
  size_t num_bytes() const { return static_cast<size_t>(num_elements()) * size_of(dtype_); }

  void* raw() const { return data_; }
  template <class T>
  T* data() const {
    check_dtype(DTypeOf<T>::value);
    return static_cast<T*>(data_);
  }

  Tensor view(const Shape& shape) const;                  // contiguous only, same number of elements
  Tensor row_range(int64_t begin, int64_t end) const;     // as a matrix [rows, cols]
  Tensor column_range(int64_t begin, int64_t end) const;  // as a matrix; keeps ld
  Tensor flat_range(int64_t begin, int64_t end) const;    // contiguous only; one dim

  // True when no other Tensor shares the storage: whoever holds it may overwrite it.
  bool is_sole_owner() const { return storage_ && storage_.use_count() == 1; }

 private:
  void check_dtype(DType asked) const;

  std::shared_ptr<void> storage_;
  void* data_ = nullptr;
  Shape shape_;
  int64_t ld_ = 0;
  DType dtype_ = DType::kF32;
  Device device_;
};

}  // namespace deepflow
