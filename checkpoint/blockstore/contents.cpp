#include "checkpoint/blockstore/contents.h"

#include "core/error.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

void add_block(const BlockIndex& index, const BlockRecord& record, StoredSize& size) {
  (record.source == 0 ? size.own : size.shared) += record.stored;
  if (record.base != kNoBase) add_block(index, index.records[record.base], size);
}

}  // namespace

StoredSize& StoredSize::operator+=(const StoredSize& other) {
  raw += other.raw;
  own += other.own;
  shared += other.shared;
  for (const auto& [codec, count] : other.blocks) blocks[codec] += count;
  return *this;
}

StoredSize stored_size(const StoredCheckpoint& checkpoint, const StoredTensor& tensor) {
  StoredSize size;
  for (const StoredSlice& slice : tensor.slices) {
    const BlockIndex& index = checkpoint.index(slice.file);
    if (slice.first_block + slice.num_blocks > static_cast<int64_t>(index.records.size()))
      throw DataError("{}/{}: has {} blocks, and {} needs {}; the checkpoint is damaged", checkpoint.path(),
                      index_file_name(slice.file), index.records.size(), tensor.name,
                      slice.first_block + slice.num_blocks);
    size.raw += tensor.slice_bytes(slice);
    for (int64_t b = slice.first_block; b < slice.first_block + slice.num_blocks; ++b) {
      const BlockRecord& record = index.records[static_cast<size_t>(b)];
      add_block(index, record, size);
      ++size.blocks[record.codec];
    }
  }
  return size;
}

StoredSize stored_size(const StoredCheckpoint& checkpoint) {
  StoredSize size;
  for (const StoredTensor& t : checkpoint.manifest().tensors) size += stored_size(checkpoint, t);
  return size;
}

std::string codecs_text(const StoredSize& size) {
  std::vector<std::pair<int64_t, CodecId>> order;
  for (const auto& [codec, count] : size.blocks) order.emplace_back(-count, codec);
  std::sort(order.begin(), order.end());
  std::string text;
  for (const auto& [count, codec] : order)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name_of(codec), -count);
  return text;
}

std::string state_kind(const std::string& tensor) { return tensor.substr(0, tensor.find('/')); }

}  // namespace deepflow
