#include "core/mapped_file.h"

#include "core/durable_file.h"
#include "core/error.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace deepflow {
namespace {

struct Descriptor {
  int value;
  ~Descriptor() { close(value); }
};

int open_without_name(const std::string& folder) {
  std::string path = folder + "/deepflow-offload-XXXXXX";
  const int descriptor = mkstemp(path.data());
  if (descriptor < 0)
    throw StorageError("{}: cannot create a file there: {}; give a folder that exists and can be written", folder,
                       std::strerror(errno));
  unlink(path.c_str());
  return descriptor;
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::create(const std::string& folder, int64_t bytes) {
  const Descriptor file{open_without_name(folder)};
  if (bytes == 0) return std::shared_ptr<MappedFile>(new MappedFile(nullptr, 0));
  struct statvfs disk;
  // Asked first, as some file systems take all that is left before they say that it is too little.
  if (fstatvfs(file.value, &disk) == 0 &&
      bytes / static_cast<int64_t>(disk.f_frsize) > static_cast<int64_t>(disk.f_bavail))
    throw_write_error(folder, ENOSPC, bytes);
  int error;
  while ((error = posix_fallocate(file.value, 0, bytes)) == EINTR) continue;
  if (error != 0) throw_write_error(folder, error, bytes);
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file.value, 0);
  if (data == MAP_FAILED) throw StorageError("{}: cannot map {} bytes ({})", folder, bytes, std::strerror(errno));
  madvise(data, static_cast<size_t>(bytes), MADV_SEQUENTIAL);
  return std::shared_ptr<MappedFile>(new MappedFile(data, bytes));
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, static_cast<size_t>(bytes_));
}

Tensor MappedFile::tensor(const std::shared_ptr<MappedFile>& file, int64_t offset, const Shape& shape, DType dtype) {
  DF_ASSERT(offset + shape.num_elements() * static_cast<int64_t>(size_of(dtype)) <= file->bytes_);
  return Tensor::wrap(static_cast<char*>(file->data_) + offset, shape, dtype, {}, file);
}

void MappedFile::page_out(const Tensor& tensor) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(tensor.raw()) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(tensor.raw()) + tensor.num_bytes() + page - 1) / page * page;
  if (tensor.num_bytes() == 0) return;
  // Of a shared mapping this forgets nothing: dirty pages belong to the page cache, which writes them when it likes.
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace deepflow
