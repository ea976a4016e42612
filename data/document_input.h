#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// The bytes of one file from front to back, decompressed when the file is gzip (.gz, and dictzip's .dz, which is gzip).
// StorageError when it cannot be read, DataError when its compressed bytes are damaged or end too early.
class DocumentInput {
 public:
  explicit DocumentInput(std::string path);
  ~DocumentInput();
  DocumentInput(const DocumentInput&) = delete;
  DocumentInput& operator=(const DocumentInput&) = delete;

  const std::string& path() const { return path_; }
  size_t read(char* out, size_t count);  // less than `count` only at the end

 private:
  std::string path_;
  void* file_;  // zlib's gzFile
};

// Files stand for themselves, folders for all regular files below them in the order of their names; hidden files and
// folders are left out. StorageError for a path that is missing, DataError for a folder without files.
std::vector<std::string> list_document_files(const std::vector<std::string>& paths);

}  // namespace deepflow
