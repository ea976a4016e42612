#pragma once

#include "core/dtype.h"
#include "core/durable_file.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace deepflow {

struct SafetensorsItem {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  int64_t num_bytes() const;
};

// Writes a safetensors file as a stream: the header at once, then the tensors' bytes in the order of `items`, in
// pieces of any size. The file appears under its name with commit(). Throws StorageError.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<SafetensorsItem>& items,
                    const std::map<std::string, std::string>& metadata);
  void append(const void* bytes, size_t count) { file_.append(bytes, count); }
  void commit();

 private:
  DurableFile file_;
  int64_t expected_size_ = 0;
};

}  // namespace deepflow
