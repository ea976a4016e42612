#include "checkpoint/safetensors.h"

#include "checkpoint/printable.h"
#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace deepflow {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;  // the reference implementation's limit

std::string error_text(int error_number) { return std::generic_category().message(error_number); }

void read_exactly(int descriptor, int64_t offset, void* into, size_t count, const std::string& path) {
  char* to = static_cast<char*>(into);
  while (count > 0) {
    const ssize_t got = ::pread(descriptor, to, std::min<size_t>(count, size_t{1} << 30), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw StorageError("{}: cannot read it: {}", path, error_text(errno));
    if (got == 0) throw DataError("{}: it ends at byte {} while being read; was it truncated?", path, offset);
    to += got;
    offset += got;
    count -= static_cast<size_t>(got);
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) throw StorageError("{}: cannot open it: {}", path_, error_text(errno));
  try {
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode))
      throw DataError("{}: it is no regular file", path_);
    const int64_t size = status.st_size;
    if (size < kLengthBytes) throw DataError("{}: {} bytes are too few for a safetensors file", path_, size);
    std::array<uint8_t, kLengthBytes> bytes{};
    read_exactly(descriptor_, 0, bytes.data(), bytes.size(), path_);
    uint64_t length = 0;
    for (size_t i = bytes.size(); i-- > 0;) length = length << 8 | bytes[i];
    if (length > kLongestHeader)
      throw DataError("{}: its header would have {} bytes, more than {}; it is no safetensors file", path_, length,
                      kLongestHeader);
    data_start_ = kLengthBytes + static_cast<int64_t>(length);
    if (data_start_ > size)
      throw DataError("{}: truncated: its header needs {} bytes and {} follow", path_, length, size - kLengthBytes);
    std::string json(length, '\0');
    read_exactly(descriptor_, kLengthBytes, json.data(), json.size(), path_);
    header_ = parse_safetensors_header(json, size - data_start_, path_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
  for (size_t i = 0; i < header_.entries.size(); ++i) by_name_[header_.entries[i].name] = i;
}

SafetensorsFile::~SafetensorsFile() { ::close(descriptor_); }

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &header_.entries[it->second];
}

void SafetensorsFile::read(const SafetensorsEntry& entry, int64_t offset, void* into, size_t count) const {
  DF_ASSERT(offset >= 0 && entry.begin + offset + static_cast<int64_t>(count) <= entry.end, "{}", entry.name);
  read_exactly(descriptor_, data_start_ + entry.begin + offset, into, count, path_);
}

}  // namespace deepflow
