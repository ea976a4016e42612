#include "core/durable_file.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>

namespace deepflow {
namespace {

// strerror is not safe with threads.
std::string error_text(int error_number) { return std::generic_category().message(error_number); }

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

int create_temporary(const std::string& path, std::string* temporary) {
  std::random_device random;
  for (int attempt = 0; attempt < 100; ++attempt) {
    *temporary = fmt::format("{}.partial-{:08x}", path, random());
    const int descriptor = ::open(temporary->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return descriptor;
    if (errno != EEXIST) break;
  }
  if (errno == ENOENT) throw StorageError("{}: its folder does not exist; create {} first", path, folder_of(path));
  if (errno == ENOSPC || errno == EDQUOT) throw_write_error(path, errno, 0);
  throw StorageError("{}: cannot create a file in {}: {}", path, folder_of(path), error_text(errno));
}

void sync_path(const std::string& name, int flags, const std::string& path) {
  const int descriptor = ::open(name.c_str(), flags | O_CLOEXEC);
  if (descriptor < 0) throw StorageError("{}: cannot open it to flush it to disk: {}", path, error_text(errno));
  const int failed = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some file systems have no fsync for a folder.
  if (failed != 0 && failed != EINVAL) throw_write_error(path, failed, 0);
}

}  // namespace

void throw_write_error(const std::string& path, int error_number, int64_t bytes) {
  switch (error_number) {
    case ENOSPC:
      throw StorageError("{}: no space left on device while writing {} bytes; free space and run again", path, bytes);
    case EDQUOT:
      throw StorageError("{}: disk quota exceeded while writing {} bytes; free space and run again", path, bytes);
    default:
      throw StorageError("{}: {} while writing {} bytes", path, error_text(error_number), bytes);
  }
}

void write_all(int descriptor, const void* bytes, size_t count, const std::string& path) {
  constexpr size_t kLargestCall = size_t{1} << 30;  // Linux moves at most 2^31 - 4096 bytes a call
  const char* next = static_cast<const char*>(bytes);
  size_t left = count;
  while (left > 0) {
    const ssize_t written = ::write(descriptor, next, std::min(left, kLargestCall));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw_write_error(path, written < 0 ? errno : EIO, static_cast<int64_t>(count));
    next += written;
    left -= static_cast<size_t>(written);
  }
}

DurableName::DurableName(std::string path) : path_(std::move(path)) {
  struct stat found {};
  if (::stat(path_.c_str(), &found) == 0 && S_ISDIR(found.st_mode)) {
    throw StorageError("{}: is a folder; name a file to write", path_);
  }
  ::close(create_temporary(path_, &temporary_));
}

DurableName::~DurableName() { discard(); }

void DurableName::discard() {
  if (temporary_.empty()) return;
  // Truncation frees the blocks even when a library keeps its descriptor; a failure leaves only a stray file.
  [[maybe_unused]] const int ignored = ::truncate(temporary_.c_str(), 0);
  ::unlink(temporary_.c_str());
  temporary_.clear();
}

void DurableName::commit() {
  DF_ASSERT(!temporary_.empty(), "{} committed twice", path_);
  sync_path(temporary_, O_RDONLY, path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw StorageError("{}: cannot rename {} to it: {}", path_, temporary_, error_text(errno));
  }
  temporary_.clear();
  sync_path(folder_of(path_), O_RDONLY | O_DIRECTORY, path_);
}

DurableFile::DurableFile(std::string path) : name_(std::move(path)) {
  descriptor_ = ::open(name_.temporary().c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw StorageError("{}: cannot write: {}", name_.path(), error_text(errno));
}

DurableFile::~DurableFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void DurableFile::append(const void* bytes, size_t count) {
  DF_ASSERT(descriptor_ >= 0, "{} written after commit", name_.path());
  write_all(descriptor_, bytes, count, name_.path());
  size_ += static_cast<int64_t>(count);
}

void DurableFile::commit() {
  DF_ASSERT(descriptor_ >= 0, "{} committed twice", name_.path());
  const int closed = ::close(descriptor_);  // NFS reports a full disk here
  descriptor_ = -1;
  if (closed != 0) throw_write_error(name_.path(), errno, size_);
  name_.commit();
}

void write_file_durably(const std::string& path, std::string_view bytes) {
  DurableFile file(path);
  file.append(bytes);
  file.commit();
}

}  // namespace deepflow
