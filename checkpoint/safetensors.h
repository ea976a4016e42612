#pragma once

#include "core/dtype.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

// One tensor of a safetensors file: u64 header length (little-endian), a JSON header, then the tensors' bytes.
// https://github.com/huggingface/safetensors#format
struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;  // as in the file: "F32", "F8_E4M3"
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes, from the end of the header

  std::optional<DType> dtype() const;  // none: a dtype that we do not compute with
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by offset; together they cover the data without holes or overlap
  std::map<std::string, std::string> metadata;
};

// The reference implementation's rules, and stricter: keys and tensor names stand once, a tensor has exactly dtype,
// shape and data_offsets. `data_bytes` is what follows the header in the file. Throws DataError "WHERE: ..." in one
// line.
SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t data_bytes, const std::string& where);

// A file open for reading. Only the header is held in memory; content is read by ranges. Trusts nothing.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::string path);  // throws StorageError or DataError
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const SafetensorsEntry* find(const std::string& name) const;
  // Bytes [offset, offset + count) of a tensor's content. Thread-safe.
  void read(const SafetensorsEntry& entry, int64_t offset, void* into, size_t count) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t data_start_ = 0;
  SafetensorsHeader header_;
  std::map<std::string, size_t> by_name_;
};

}  // namespace deepflow
