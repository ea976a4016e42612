#include "checkpoint/blockstore/block_index.h"

#include "core/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace deepflow {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian and copied as it is");

constexpr std::string_view kMagic{"DeepFlow\1\0\0\0INDX", 16};
constexpr size_t kHeaderBytes = kMagic.size() + 16, kRecordBytes = 48, kLongestName = 64;

template <class T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T take(std::string_view& from) {
  T value;
  std::memcpy(&value, from.data(), sizeof value);
  from.remove_prefix(sizeof value);
  return value;
}

bool is_numbered(std::string_view name, std::string_view prefix, size_t digits) {
  if (!name.starts_with(prefix) || name.size() < prefix.size() + digits || name.size() > kLongestName) return false;
  return std::all_of(name.begin() + static_cast<std::ptrdiff_t>(prefix.size()), name.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}

void put_name(std::string& to, const std::string& name) {
  put(to, static_cast<uint32_t>(name.size()));
  to += name;
}

void put_record(std::string& to, const BlockRecord& r) {
  put(to, r.offset);
  put(to, r.digest.lo);
  put(to, r.digest.hi);
  put(to, r.stored);
  put(to, r.raw);
  put(to, r.source);
  put(to, r.base);
  put(to, static_cast<uint8_t>(r.codec));
  to.append(7, '\0');
}

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

  BlockIndex read() {
    check(rest_.size() >= kHeaderBytes && rest_.starts_with(kMagic), "is no block index of version 1");
    rest_.remove_prefix(kMagic.size());
    const auto num_sources = take<uint64_t>(rest_), num_records = take<uint64_t>(rest_);
    check(num_sources <= rest_.size() / 8 && num_records <= rest_.size() / kRecordBytes, "ends before its records");
    BlockIndex index;
    for (uint64_t i = 0; i < num_sources; ++i) index.sources.push_back(read_source());
    check(rest_.size() == num_records * kRecordBytes, "does not end behind its last record");
    index.records.reserve(num_records);
    for (uint64_t i = 0; i < num_records; ++i) index.records.push_back(read_record(num_sources, num_records));
    for (const BlockRecord& r : index.records) check_base(index, r);
    return index;
  }

 private:
  void check(bool good, const char* what) const {
    if (!good) throw DataError("{}: {}; the checkpoint is damaged", path_, what);
  }

  std::string read_name() {
    check(rest_.size() >= 4, "ends inside a name");
    const auto size = take<uint32_t>(rest_);
    check(size <= kLongestName && size <= rest_.size(), "ends inside a name");
    std::string name(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return name;
  }

  BlockSource read_source() {
    BlockSource s;
    s.folder = read_name();
    s.file = read_name();
    check(is_step_folder_name(s.folder) && is_data_file_name(s.file), "refers to something that is no data file");
    return s;
  }

  BlockRecord read_record(uint64_t num_sources, uint64_t num_records) {
    BlockRecord r;
    r.offset = take<uint64_t>(rest_);
    r.digest.lo = take<uint64_t>(rest_);
    r.digest.hi = take<uint64_t>(rest_);
    r.stored = take<uint32_t>(rest_);
    r.raw = take<uint32_t>(rest_);
    r.source = take<uint32_t>(rest_);
    r.base = take<uint32_t>(rest_);
    const auto codec = take<uint8_t>(rest_);
    const bool zeros = rest_.substr(0, 7) == std::string_view("\0\0\0\0\0\0\0", 7);
    rest_.remove_prefix(7);
    check(zeros && codec <= static_cast<uint8_t>(CodecId::kInt8), "has a record with an unknown codec");
    r.codec = static_cast<CodecId>(codec);
    check(r.raw > 0 && r.raw <= kBlockBytes && r.stored <= 2 * kBlockBytes && r.offset >= kDataMagic.size() &&
              r.offset < (uint64_t{1} << 62) && r.source <= num_sources,
          "has a record that is out of range");
    check((r.codec == CodecId::kDelta) == (r.base != kNoBase) && (r.base == kNoBase || r.base < num_records),
          "has a difference without a base");
    return r;
  }

  // Differences are not taken from differences.
  void check_base(const BlockIndex& index, const BlockRecord& r) const {
    if (r.base == kNoBase) return;
    const BlockRecord& base = index.records[r.base];
    check(base.codec != CodecId::kDelta && base.raw == r.raw, "has a difference from a block that cannot be its base");
  }

  std::string_view rest_;
  const std::string& path_;
};

}  // namespace

std::string BlockIndex::write() const {
  std::string bytes(kMagic);
  bytes.reserve(kHeaderBytes + records.size() * kRecordBytes + sources.size() * 2 * kLongestName);
  put(bytes, static_cast<uint64_t>(sources.size()));
  put(bytes, static_cast<uint64_t>(records.size()));
  for (const BlockSource& s : sources) put_name(bytes, s.folder), put_name(bytes, s.file);
  for (const BlockRecord& r : records) put_record(bytes, r);
  return bytes;
}

BlockIndex BlockIndex::read(std::string_view bytes, const std::string& path) { return Reader(bytes, path).read(); }

uint32_t BlockIndex::source_of(const BlockSource& source) {
  const auto found = std::find(sources.begin(), sources.end(), source);
  const auto number = static_cast<uint32_t>(found - sources.begin()) + 1;
  if (found == sources.end()) sources.push_back(source);
  return number;
}

std::string step_folder_name(int64_t step) { return fmt::format("step-{:08}", step); }
bool is_step_folder_name(std::string_view name) { return is_numbered(name, "step-", 8); }
std::string data_file_name(int writer) { return fmt::format("data-{:05}", writer); }
std::string index_file_name(int writer) { return fmt::format("index-{:05}", writer); }
bool is_data_file_name(std::string_view name) { return is_numbered(name, "data-", 5); }

}  // namespace deepflow
