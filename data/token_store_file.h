#pragma once

#include <cstdint>
#include <string>

namespace deepflow {

// A file read by position, from any thread. StorageError when it is missing or cannot be read, DataError when it ends
// before the bytes that are asked for.
class TokenStoreFile {
 public:
  explicit TokenStoreFile(std::string path);
  ~TokenStoreFile();
  TokenStoreFile(const TokenStoreFile&) = delete;
  TokenStoreFile& operator=(const TokenStoreFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  void read(int64_t offset, void* out, int64_t count) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// 32 hexadecimal digits: XXH3-128 of the head, the file's size and 64 blocks of 4 KiB spread over the file. Stands in
// for a content digest where a format has no checksums and reading everything would take minutes.
std::string sampled_digest(const TokenStoreFile& file, const std::string& head);

// XXH3-128 of some bytes as 32 hexadecimal digits.
std::string digest_of(const std::string& bytes);

}  // namespace deepflow
