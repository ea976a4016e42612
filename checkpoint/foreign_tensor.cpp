#include "checkpoint/foreign_tensor.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace deepflow {
namespace {

constexpr int64_t kPieceBytes = int64_t{8} << 20;

struct Region {  // of a matrix
  int64_t row_begin, row_end, col_begin, col_end;
  int64_t rows() const { return row_end - row_begin; }
  int64_t cols() const { return col_end - col_begin; }
};

// to[c, r] = from[r, c], both f32.
void transpose(Runtime& runtime, const Tensor& from, Tensor& to) {
  constexpr int64_t kTile = 32;
  const float* source = from.data<float>();
  float* target = to.data<float>();
  runtime.pool().parallel_for(from.cols(), kTile, [&](int64_t begin, int64_t end) {
    for (int64_t c0 = begin; c0 < end; c0 += kTile)
      for (int64_t r = 0; r < from.rows(); ++r)
        for (int64_t c = c0; c < std::min(c0 + kTile, end); ++c) target[c * to.ld() + r] = source[r * from.ld() + c];
  });
}

Tensor as_matrix(const Tensor& t, int64_t rows, int64_t cols) { return t.view({rows, cols}); }

// Reads `region` of the stored [rows, cols] matrix into `into` (f32): [region.rows, region.cols], or its transpose.
void read_region(Runtime& runtime, const SafetensorsFile& file, const SafetensorsEntry& entry, int64_t cols,
                 const Region& region, bool transposed, Tensor& into) {
  const DType dtype = *entry.dtype();
  const int64_t row_bytes = cols * static_cast<int64_t>(size_of(dtype));
  if (region.rows() == 0 || region.cols() == 0) return;
  const int64_t piece_rows = std::clamp<int64_t>(kPieceBytes / row_bytes, 1, region.rows());
  const Tensor raw = Tensor::empty(runtime.memory(), {piece_rows, cols}, dtype);
  Tensor wide;
  if (transposed) wide = Tensor::empty(runtime.memory(), {piece_rows, region.cols()}, DType::kF32);
  for (int64_t row = region.row_begin; row < region.row_end; row += piece_rows) {
    const int64_t n = std::min(piece_rows, region.row_end - row), first = row - region.row_begin;
    file.read(entry, row * row_bytes, raw.raw(), static_cast<size_t>(n * row_bytes));
    const Tensor piece = raw.row_range(0, n).column_range(region.col_begin, region.col_end);
    Tensor target = transposed ? wide.row_range(0, n) : into.row_range(first, first + n);
    copy(runtime, piece, target);
    if (!transposed) continue;
    Tensor columns = into.column_range(first, first + n);
    transpose(runtime, target, columns);
  }
}

}  // namespace

ForeignTensor::ForeignTensor(const NameMapEntry& entry, ParameterRegistry& registry)
    : name_(entry.external), transposed_(entry.transposed), index_(entry.index) {
  for (const std::string& logical : entry.logical) add_part(logical, registry);
  const int num_dims = parts_.front().parameter->spec.shape.num_dims();
  DF_ASSERT(!transposed_ || num_dims == 2, "{}", name_);
  DF_ASSERT(index_ < 0 || num_dims == 3, "{}", name_);
  shape_ = {rows_};
  if (num_dims > 1) shape_ = transposed_ ? std::vector{cols_, rows_} : std::vector{rows_, cols_};
  if (num_dims == 3 && index_ < 0) shape_.insert(shape_.begin(), matrices_);
}

void ForeignTensor::add_part(const std::string& logical, ParameterRegistry& registry) {
  Parameter* p = registry.find(logical);
  DF_ASSERT(p, "{} is made of {}, which is no parameter", name_, logical);
  const Shape& shape = p->spec.shape;
  const int num_dims = shape.num_dims();
  DF_ASSERT(num_dims >= 1 && num_dims <= 3 && index_ < shape[0], "{}: {}", logical, shape.to_string());
  const int64_t rows = num_dims == 3 ? shape[1] : shape[0];
  parts_.push_back({p, rows_, rows});
  rows_ += rows;
  cols_ = num_dims > 1 ? shape.back() : 1;
  matrices_ = num_dims == 3 && index_ < 0 ? shape[0] : 1;
}

void ForeignTensor::read(Runtime& runtime, const SafetensorsFile& file, const SafetensorsEntry& entry,
                         const LocalValue& value) const {
  DF_ASSERT(entry.shape == shape_ && entry.dtype(), "{}", name_);
  for (const Part& part : parts_)
    if (part.parameter->pack->local) read_part(runtime, file, entry, part, value(*part.parameter));
}

void ForeignTensor::read_part_of(Runtime& runtime, const SafetensorsFile& file, const SafetensorsEntry& entry,
                                 const Parameter& p, const Tensor& local) const {
  DF_ASSERT(entry.shape == shape_ && entry.dtype(), "{}", name_);
  for (const Part& part : parts_)
    if (part.parameter == &p) read_part(runtime, file, entry, part, local);
}

std::vector<const Parameter*> ForeignTensor::parameters() const {
  std::vector<const Parameter*> all;
  for (const Part& part : parts_) all.push_back(part.parameter);
  return all;
}

void ForeignTensor::read_part(Runtime& runtime, const SafetensorsFile& file, const SafetensorsEntry& entry,
                              const Part& part, const Tensor& local) const {
  int64_t offset = 0;
  for (const Box& box : part.parameter->boxes) {
    const size_t dims = box.lo.size(), row = dims == 3 ? 1 : 0;
    const Region logical = {part.row + box.lo[row], part.row + box.hi[row], dims > 1 ? box.lo[row + 1] : 0,
                            dims > 1 ? box.hi[row + 1] : 1};
    const int64_t begin = dims == 3 ? box.lo[0] : 0, end = dims == 3 ? box.hi[0] : 1;
    const int64_t elements = logical.rows() * logical.cols();
    for (int64_t m = begin; m < end; ++m, offset += elements) {
      if (index_ >= 0 && m != index_) continue;
      Tensor into = as_matrix(local.flat_range(offset, offset + elements), logical.rows(), logical.cols());
      const int64_t above = (m - first_matrix()) * rows_;
      if (transposed_)
        read_region(runtime, file, entry, rows_,
                    {logical.col_begin, logical.col_end, logical.row_begin, logical.row_end}, true, into);
      else
        read_region(runtime, file, entry, cols_,
                    {above + logical.row_begin, above + logical.row_end, logical.col_begin, logical.col_end}, false,
                    into);
    }
  }
}

Tensor ForeignTensor::assemble(Runtime& runtime, const WholeValue& value) const {
  const Shape shape(shape_.begin(), shape_.end());
  Tensor whole = Tensor::empty(runtime.memory(), shape, DType::kF32);
  const Tensor matrix = transposed_ ? as_matrix(whole, cols_, rows_) : as_matrix(whole, matrices_ * rows_, cols_);
  for (const Part& part : parts_) {
    const Tensor all = value(*part.parameter);
    for (int64_t m = 0; m < matrices_; ++m) {
      const int64_t begin = (first_matrix() + m) * part.rows * cols_;
      const Tensor logical = as_matrix(all.flat_range(begin, begin + part.rows * cols_), part.rows, cols_);
      if (transposed_) {
        Tensor columns = matrix.column_range(part.row, part.row + part.rows);
        transpose(runtime, logical, columns);
      } else {
        Tensor rows = matrix.row_range(m * rows_ + part.row, m * rows_ + part.row + part.rows);
        copy(runtime, logical, rows);
      }
    }
  }
  return whole;
}

ForeignTensor::WholeValue ForeignTensor::remembering(WholeValue value) {
  struct Last {
    const Parameter* parameter = nullptr;
    Tensor value;
  };
  return [value = std::move(value), last = std::make_shared<Last>()](const Parameter& p) {
    if (last->parameter != &p) {
      last->value = {};
      *last = {&p, value(p)};
    }
    return last->value;
  };
}

void ForeignTensor::take_part(const WholeValue& value) const {
  for (const Part& part : parts_) value(*part.parameter);
}

}  // namespace deepflow
