#include "checkpoint/blockstore/data_files.h"

#include "checkpoint/codecs/delta.h"
#include "core/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace deepflow {
namespace {

const BlockSource& source_of(const BlockIndex& index, const BlockRecord& record, const BlockSource& own) {
  return record.source == 0 ? own : index.sources[record.source - 1];
}

}  // namespace

DataFiles::~DataFiles() {
  for (const auto& file : opened_) close(file.second.descriptor);
}

const DataFiles::Opened& DataFiles::open(const BlockSource& source) {
  const auto key = std::make_pair(source.folder, source.file);
  const auto known = opened_.find(key);
  if (known != opened_.end()) return known->second;
  const std::string path = dir_ + "/" + source.folder + "/" + source.file;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    if (errno == ENOENT) throw DataError("{}: is missing; the checkpoint is damaged", path);
    throw StorageError("{}: cannot be opened: {}", path, std::strerror(errno));
  }
  char magic[kDataMagic.size()];
  if (pread(descriptor, magic, sizeof magic, 0) != static_cast<ssize_t>(sizeof magic) ||
      std::string_view(magic, sizeof magic) != kDataMagic) {
    close(descriptor);
    throw DataError("{}: is no data file of version 1; the checkpoint is damaged", path);
  }
  return opened_[key] = {descriptor, path};
}

bool DataFiles::is_there(const BlockSource& source) {
  try {
    open(source);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void DataFiles::expect(const BlockIndex& index, size_t first, size_t count, const BlockSource& own) {
  const size_t end = std::min(first + count, index.records.size());
  for (size_t i = first; i < end;) {
    const BlockRecord& begin = index.records[i];
    const BlockSource& source = source_of(index, begin, own);
    uint64_t bytes = 0;
    for (; i < end; ++i) {
      const BlockRecord& r = index.records[i];
      if (r.source != begin.source || r.offset != begin.offset + bytes) break;
      bytes += r.stored;
    }
    if (is_there(source))
      posix_fadvise(open(source).descriptor, static_cast<off_t>(begin.offset), static_cast<off_t>(bytes),
                    POSIX_FADV_WILLNEED);
  }
}

std::span<const char> DataFiles::read_stored(const BlockRecord& record, const BlockSource& source) {
  const Opened& file = open(source);
  if (stored_.size() < record.stored) stored_.resize(record.stored);
  size_t done = 0;
  while (done < record.stored) {
    const ssize_t n =
        pread(file.descriptor, stored_.data() + done, record.stored - done, static_cast<off_t>(record.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw StorageError("{} at byte {}: cannot be read: {}", file.path, record.offset, std::strerror(errno));
    if (n == 0)
      throw DataError("{} at byte {}: the file ends inside a block; the checkpoint is damaged", file.path,
                      record.offset);
    done += static_cast<size_t>(n);
  }
  bytes_read_ += record.stored;
  return {stored_.data(), record.stored};
}

Codec& DataFiles::codec(CodecId id) {
  auto& made = codecs_[static_cast<size_t>(id)];
  if (!made) made = make_codec(id);
  return *made;
}

void DataFiles::read_plain(const BlockRecord& record, const BlockSource& source, DType dtype, std::span<char> out) {
  codec(record.codec).decode(read_stored(record, source), dtype, out);
}

void DataFiles::read_block(const BlockIndex& index, size_t record, const BlockSource& own, DType dtype,
                           std::span<char> out, bool verify) {
  const BlockRecord& r = index.records[record];
  const BlockSource& source = source_of(index, r, own);
  DF_ASSERT(out.size() == r.raw);
  try {
    if (r.codec == CodecId::kDelta) {
      const BlockRecord& base = index.records[r.base];
      base_.resize(base.raw);
      read_plain(base, source_of(index, base, own), dtype, base_);
      static_cast<DeltaCodec&>(codec(CodecId::kDelta)).decode(read_stored(r, source), base_, dtype, out);
    } else {
      read_plain(r, source, dtype, out);
    }
  } catch (const DataError& e) {
    const std::string what = e.what();
    if (what.starts_with(dir_)) throw;
    throw DataError("{}/{}/{} at byte {}: {}", dir_, source.folder, source.file, r.offset, what);
  }
  if (verify && !(digest_of(out) == r.digest))
    throw DataError("{}/{}/{} at byte {}: the block's content does not have its digest", dir_, source.folder,
                    source.file, r.offset);
}

}  // namespace deepflow
