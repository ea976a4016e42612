#include "checkpoint/blockstore/tensor_parts.h"

#include "checkpoint/boxes.h"
#include "core/error.h"

#include <cstring>
#include <set>

namespace deepflow {
namespace {

template <class T>
T load(const char* values, int64_t element) {
  T x;
  std::memcpy(&x, values + element * static_cast<int64_t>(sizeof x), sizeof x);
  return x;
}

}  // namespace

Box whole_box(const Shape& shape) {
  Box whole;
  whole.lo.assign(static_cast<size_t>(shape.num_dims()), 0);
  whole.hi.assign(shape.begin(), shape.end());
  return whole;
}

std::vector<Box> parts_of(const StoredTensor& tensor) { return cut(whole_box(tensor.shape), kPartElements); }

std::vector<int> contributors_of(const StoredTensor& tensor) {
  std::set<int> found;
  for (const StoredSlice& s : tensor.slices) found.insert(s.contributor);
  return {found.begin(), found.end()};
}

void read_part(TensorReader& reader, const StoredTensor& tensor, const Box& part, std::vector<char>& out) {
  const auto elements = static_cast<size_t>(part.num_elements());
  out.resize(elements * size_of(tensor.dtype));
  const std::vector<int> contributors = contributors_of(tensor);
  if (tensor.rule != Reshard::kSum || contributors.size() == 1)
    return reader.read(tensor, {part}, out, contributors.empty() ? 0 : contributors.front());
  if (tensor.dtype != DType::kF32)
    throw DataError("{} is a sum of {}, expected f32", tensor.name, name_of(tensor.dtype));
  std::vector<float> total(elements, 0), one(elements);
  for (const int c : contributors) {
    reader.read(tensor, {part}, {reinterpret_cast<char*>(one.data()), out.size()}, c);
    for (size_t i = 0; i < elements; ++i) total[i] += one[i];
  }
  std::memcpy(out.data(), total.data(), out.size());
}

double number_at(const char* values, DType dtype, int64_t element) {
  switch (dtype) {
    case DType::kF32:
      return load<float>(values, element);
    case DType::kBF16:
      return to_float(load<BF16>(values, element));
    case DType::kF16:
      return to_float(load<F16>(values, element));
    case DType::kI32:
      return load<int32_t>(values, element);
    case DType::kI64:
      return static_cast<double>(load<int64_t>(values, element));
    case DType::kU8:
      return load<uint8_t>(values, element);
  }
  return 0;
}

}  // namespace deepflow
