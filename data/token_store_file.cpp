#include "data/token_store_file.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace deepflow {
namespace {

std::string error_text(int error_number) { return std::generic_category().message(error_number); }

}  // namespace

TokenStoreFile::TokenStoreFile(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    if (errno == ENOENT) throw StorageError("{}: no such file; make it with: deepflow data tokenize", path_);
    throw StorageError("{}: cannot open: {}", path_, error_text(errno));
  }
  struct stat found {};
  const bool regular = ::fstat(descriptor_, &found) == 0 && S_ISREG(found.st_mode);
  if (!regular) {
    ::close(descriptor_);
    throw StorageError("{}: is not a regular file; name one token store", path_);
  }
  size_ = found.st_size;
}

TokenStoreFile::~TokenStoreFile() { ::close(descriptor_); }

void TokenStoreFile::read(int64_t offset, void* out, int64_t count) const {
  char* next = static_cast<char*>(out);
  while (count > 0) {
    const size_t piece = static_cast<size_t>(std::min<int64_t>(count, int64_t{1} << 30));
    const ssize_t got = ::pread(descriptor_, next, piece, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw StorageError("{}: cannot read {} bytes at {}: {}", path_, count, offset, error_text(errno));
    if (got == 0) {
      throw DataError("{}: truncated: {} more bytes expected at {}; copy or make it again", path_, count, offset);
    }
    next += got;
    offset += got;
    count -= got;
  }
}

std::string digest_of(const std::string& bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string sampled_digest(const TokenStoreFile& file, const std::string& head) {
  constexpr int64_t kBlocks = 64, kBlockBytes = 4096;
  std::string bytes = fmt::format("{}\n{}\n", head, file.size());
  std::string block(static_cast<size_t>(std::min(kBlockBytes, file.size())), '\0');
  const int64_t last = file.size() - static_cast<int64_t>(block.size());
  for (int64_t i = 0; i < kBlocks; ++i) {
    // last * i overflows only beyond 2^57 bytes.
    file.read(last * i / (kBlocks - 1), block.data(), static_cast<int64_t>(block.size()));
    bytes += block;
  }
  return digest_of(bytes);
}

}  // namespace deepflow
