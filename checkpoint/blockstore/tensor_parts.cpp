#include "checkpoint/blockstore/tensor_parts.h"

#include "checkpoint/boxes.h"
#include "core/error.h"

#include <cstring>
#include <map>
#include <optional>

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

std::map<int, std::vector<Box>> boxes_of_contributors(const StoredTensor& tensor) {
  std::map<int, std::vector<Box>> found;
  for (const StoredSlice& s : tensor.slices) {
    std::vector<Box>& boxes = found[s.contributor];
    boxes.insert(boxes.end(), s.boxes.begin(), s.boxes.end());
  }
  return found;
}

std::vector<Box> common_boxes(const std::vector<Box>& a, const std::vector<Box>& b) {
  std::vector<Box> common;
  for (const Box& x : a)
    for (const Box& y : b)
      if (const std::optional<Box> both = intersection(x, y)) common.push_back(*both);
  return common;
}

void read_part(TensorReader& reader, const StoredTensor& tensor, const Box& part, std::vector<char>& out) {
  out.resize(static_cast<size_t>(part.num_elements()) * size_of(tensor.dtype));
  const std::map<int, std::vector<Box>> contributors = boxes_of_contributors(tensor);
  if (tensor.rule != Reshard::kSum || contributors.size() == 1)
    return reader.read(tensor, {part}, out, contributors.empty() ? 0 : contributors.begin()->first);
  if (tensor.dtype != DType::kF32)
    throw DataError("{} is a sum of {}, expected f32", tensor.name, name_of(tensor.dtype));
  std::vector<float> total(static_cast<size_t>(part.num_elements()), 0), one;
  for (const auto& [contributor, boxes] : contributors) {
    const std::vector<Box> common = common_boxes({part}, boxes);
    one.resize(static_cast<size_t>(num_elements(common)));
    reader.read(tensor, common, {reinterpret_cast<char*>(one.data()), one.size() * sizeof(float)}, contributor);
    for_each_shared_run({part}, common, [&](const SharedRun& run) {
      for (int64_t i = 0; i < run.count; ++i)
        total[static_cast<size_t>(run.a + i)] += one[static_cast<size_t>(run.b + i)];
    });
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
