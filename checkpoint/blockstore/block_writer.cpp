#include "checkpoint/blockstore/block_writer.h"

#include "checkpoint/codecs/delta.h"
#include "core/durable_file.h"
#include "core/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace deepflow {
namespace {

constexpr double kDifferencePays = 0.85;           // of what the block takes without it: decoding reads two blocks
constexpr size_t kBufferBytes = size_t{64} << 10;  // what is smaller is gathered
constexpr uint64_t kPage = 4096;
constexpr size_t kBeginBytes = size_t{4} << 20;  // the disk begins when there is so much

// A new file that is on the disk, under its name, when it is closed; the name in its folder is the caller's to sync.
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {
    descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0) throw_write_error(path_, errno, 0);
    buffer_.reserve(kBufferBytes);
  }
  ~NewFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  uint64_t size() const { return written_ + buffer_.size(); }

  void append(std::span<const char> bytes) {
    if (buffer_.size() + bytes.size() > kBufferBytes) flush();
    if (bytes.size() > kBufferBytes)
      write(bytes);
    else
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }

  void finish() {
    flush();
    if (fdatasync(descriptor_) != 0) throw_write_error(path_, errno, static_cast<int64_t>(written_));
    if (close(std::exchange(descriptor_, -1)) != 0) throw_write_error(path_, errno, static_cast<int64_t>(written_));
  }

 private:
  void flush() {
    write(buffer_);
    buffer_.clear();
  }

  // The disk begins at once, so that little is left for the end.
  void write(std::span<const char> bytes) {
    if (bytes.empty()) return;
    write_all(descriptor_, bytes.data(), bytes.size(), path_);
    written_ += bytes.size();
    const uint64_t whole = written_ / kPage * kPage;  // the last page is still to be filled
    if (whole - begun_ < kBeginBytes) return;
    sync_file_range(descriptor_, static_cast<off64_t>(begun_), static_cast<off64_t>(whole - begun_),
                    SYNC_FILE_RANGE_WRITE);
    begun_ = whole;
  }

  std::string path_;
  int descriptor_;
  std::vector<char> buffer_;
  uint64_t written_ = 0, begun_ = 0;
};

}  // namespace

class BlockWriter::File final : public NewFile {
 public:
  using NewFile::NewFile;
};

WriteStats& WriteStats::operator+=(const WriteStats& other) {
  raw += other.raw;
  stored += other.stored;
  referenced += other.referenced;
  differences += other.differences;
  return *this;
}

EarlierBlocks earlier_blocks(const BlockIndex& index, const BlockSource& own, int64_t first, int64_t count) {
  const auto source_of = [&](const BlockRecord& r) { return r.source == 0 ? own : index.sources[r.source - 1]; };
  EarlierBlocks blocks;
  for (int64_t i = first; i < first + count; ++i) {
    const BlockRecord& record = index.records[static_cast<size_t>(i)];
    EarlierBlock block{source_of(record), record, std::nullopt};
    if (record.base != kNoBase) {
      const BlockRecord& base = index.records[record.base];
      block.base = std::make_pair(source_of(base), base);
    }
    blocks.push_back(std::move(block));
  }
  return blocks;
}

BlockWriter::BlockWriter(const std::string& dir, const std::string& folder, const std::string& written_as, int writer)
    : folder_(folder),
      written_as_(dir + "/" + written_as),
      writer_(writer),
      file_(std::make_unique<File>(written_as_ + "/" + data_file_name(writer))),
      earlier_files_(dir) {
  file_->append(kDataMagic);
}

BlockWriter::~BlockWriter() = default;

int64_t BlockWriter::append(std::span<const char> values, DType dtype, CodecId codec, const EarlierBlocks& earlier,
                            Differences differences) {
  const auto first = static_cast<int64_t>(index_.records.size());
  const size_t blocks = (values.size() + kBlockBytes - 1) / kBlockBytes;
  const bool has_earlier = earlier.size() == blocks;
  std::optional<bool> as_difference;
  if (!has_earlier || differences != Differences::kTry)
    as_difference = has_earlier && differences == Differences::kAlways;
  for (size_t i = 0; i < blocks; ++i) {
    const size_t begin = i * kBlockBytes;
    const std::span<const char> raw = values.subspan(begin, std::min<size_t>(kBlockBytes, values.size() - begin));
    BlockRecord record;
    record.digest = digest_of(raw);
    record.raw = static_cast<uint32_t>(raw.size());
    stats_.raw += static_cast<int64_t>(raw.size());
    if (has_earlier && refer(earlier[i], record.digest, raw.size())) continue;
    if (!as_difference) as_difference = pays(raw, dtype, codec, earlier[i]);
    if (*as_difference)
      append_difference(raw, dtype, earlier[i], record);
    else
      append_plain(raw, dtype, codec, record);
  }
  return first;
}

bool BlockWriter::refer(const EarlierBlock& earlier, const Digest& digest, size_t raw) {
  if (!(earlier.record.digest == digest) || earlier.record.raw != raw) return false;
  if (!earlier_files_.is_there(earlier.source)) return false;
  if (earlier.base && !earlier_files_.is_there(earlier.base->first)) return false;
  BlockRecord record = foreign(earlier.source, earlier.record);
  if (earlier.base) {
    record.base = static_cast<uint32_t>(bases_.size());
    bases_.push_back(foreign(earlier.base->first, earlier.base->second));
  }
  index_.records.push_back(record);
  stats_.referenced += static_cast<int64_t>(raw);
  return true;
}

BlockRecord BlockWriter::foreign(const BlockSource& source, BlockRecord record) {
  record.source = index_.source_of(source);
  record.base = kNoBase;
  return record;
}

bool BlockWriter::pays(std::span<const char> first, DType dtype, CodecId codec, const EarlierBlock& earlier) {
  const size_t plain = std::max<size_t>(1, encode(first, dtype, codec)), stored = plain > 1 ? plain : first.size();
  const size_t difference = encode_difference(first, dtype, earlier);
  return difference > 0 && static_cast<double>(difference) < kDifferencePays * static_cast<double>(stored);
}

// 0: not smaller than the block itself, or the earlier one cannot be read any more.
size_t BlockWriter::encode_difference(std::span<const char> raw, DType dtype, const EarlierBlock& earlier) {
  const BlockSource& source = earlier.base ? earlier.base->first : earlier.source;
  BlockIndex one;
  one.records.push_back(earlier.base ? earlier.base->second : earlier.record);
  one.records.front().source = 0;
  if (one.records.front().raw != raw.size()) return 0;
  base_.resize(raw.size());
  try {
    earlier_files_.read_block(one, 0, source, dtype, base_);
  } catch (const Error&) {
    return 0;
  }
  DeltaCodec& delta = static_cast<DeltaCodec&>(this->codec(CodecId::kDelta));
  encoded_.resize(std::max(encoded_.size(), delta.bound(raw.size())));
  return delta.encode(raw, base_, dtype, encoded_);
}

void BlockWriter::append_difference(std::span<const char> raw, DType dtype, const EarlierBlock& earlier,
                                    BlockRecord record) {
  const size_t stored = encode_difference(raw, dtype, earlier);
  if (stored == 0) return append_plain(raw, dtype, CodecId::kPlanes, record);
  record.codec = CodecId::kDelta;
  record.base = static_cast<uint32_t>(bases_.size());
  bases_.push_back(earlier.base ? foreign(earlier.base->first, earlier.base->second)
                                : foreign(earlier.source, earlier.record));
  stats_.differences += static_cast<int64_t>(raw.size());
  write({encoded_.data(), stored}, record);
}

size_t BlockWriter::encode(std::span<const char> raw, DType dtype, CodecId id) {
  if (id == CodecId::kRaw) return 0;
  Codec& codec = this->codec(id);
  encoded_.resize(std::max(encoded_.size(), codec.bound(raw.size())));
  return codec.encode(raw, dtype, encoded_);
}

void BlockWriter::append_plain(std::span<const char> raw, DType dtype, CodecId codec, BlockRecord record) {
  const size_t stored = encode(raw, dtype, codec);
  record.codec = stored > 0 ? codec : CodecId::kRaw;
  // What is read back is what has to be whole.
  if (stored > 0 && this->codec(codec).is_lossy()) {
    base_.resize(raw.size());
    this->codec(codec).decode({encoded_.data(), stored}, dtype, base_);
    record.digest = digest_of(base_);
  }
  write(stored > 0 ? std::span<const char>(encoded_.data(), stored) : raw, record);
}

void BlockWriter::write(std::span<const char> stored, BlockRecord record) {
  record.offset = file_->size();
  record.stored = static_cast<uint32_t>(stored.size());
  index_.records.push_back(record);
  file_->append(stored);
  stats_.stored += static_cast<int64_t>(stored.size());
}

Codec& BlockWriter::codec(CodecId id) {
  auto& made = codecs_[static_cast<size_t>(id)];
  if (!made) made = make_codec(id);
  return *made;
}

StoredFiles BlockWriter::finish() {
  const auto own = static_cast<uint32_t>(index_.records.size());
  for (BlockRecord& r : index_.records)
    if (r.base != kNoBase) r.base += own;
  index_.records.insert(index_.records.end(), bases_.begin(), bases_.end());
  bases_.clear();
  StoredFiles files;
  files.data_bytes = file_->size();
  file_->finish();
  const std::string bytes = index_.write();
  NewFile index(written_as_ + "/" + index_file_name(writer_));
  index.append(bytes);
  index.finish();
  files.index_bytes = bytes.size();
  files.index_digest = digest_of(bytes);
  return files;
}

}  // namespace deepflow
