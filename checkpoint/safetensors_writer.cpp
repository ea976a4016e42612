#include "checkpoint/safetensors_writer.h"

#include "core/error.h"

#include <nlohmann/json.hpp>

namespace deepflow {
namespace {

const char* safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    case DType::kU8:
      return "U8";
  }
  DF_ASSERT(false, "dtype {}", static_cast<int>(dtype));
}

}  // namespace

int64_t SafetensorsItem::num_bytes() const {
  int64_t n = static_cast<int64_t>(size_of(dtype));
  for (const int64_t extent : shape) n *= extent;
  return n;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<SafetensorsItem>& items,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const SafetensorsItem& item : items) {
    DF_ASSERT(!header.contains(item.name), "{}", item.name);
    const int64_t end = offset + item.num_bytes();
    header[item.name] = {
        {"dtype", safetensors_name(item.dtype)}, {"shape", item.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string json = header.dump();
  json.resize((json.size() + 7) / 8 * 8, ' ');  // the data begins aligned
  std::string length;
  for (int i = 0; i < 8; ++i) length.push_back(static_cast<char>(json.size() >> (8 * i)));
  file_.append(length);
  file_.append(json);
  expected_size_ = file_.size() + offset;
}

void SafetensorsWriter::commit() {
  DF_ASSERT(file_.size() == expected_size_, "{}: {} bytes written, {} announced", file_.path(), file_.size(),
            expected_size_);
  file_.commit();
}

}  // namespace deepflow
