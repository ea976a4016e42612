#pragma once

#include "core/tensor.h"

#include <cstdint>
#include <memory>
#include <string>

namespace deepflow {

// Memory that lives in a file: for what is used once a step and in order, so that it need not stay in memory between.
// The file has no name; its space is free again when the last tensor over it ends, or the process.
class MappedFile {
 public:
  // Zeros. The space is taken at once: a folder that cannot be written, or a disk that is too full, is a StorageError
  // now and not in the middle of a run.
  static std::shared_ptr<MappedFile> create(const std::string& folder, int64_t bytes);
  // `offset` in bytes.
  static Tensor tensor(const std::shared_ptr<MappedFile>& file, int64_t offset, const Shape& shape, DType dtype);
  // Lets go of the memory behind a tensor over a mapped file: what was written goes to the file, and the next use reads
  // it from there (from the page cache, while the system has room for it). Values stay; several threads may go on
  // reading and writing.
  static void page_out(const Tensor& tensor);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

 private:
  MappedFile(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}

  void* data_;
  int64_t bytes_;
};

}  // namespace deepflow
