#pragma once

#include "checkpoint/blockstore/block_index.h"
#include "checkpoint/blockstore/data_files.h"
#include "checkpoint/blockstore/manifest.h"

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// A block of an earlier checkpoint that may be referred to instead of being written again.
struct EarlierBlock {
  BlockSource source;
  BlockRecord record;  // source and base do not count
  std::optional<std::pair<BlockSource, BlockRecord>> base;
};
using EarlierBlocks = std::vector<EarlierBlock>;  // of one slice, in order

// What the blocks of a slice are, seen from later checkpoints.
EarlierBlocks earlier_blocks(const BlockIndex& index, const BlockSource& own, int64_t first, int64_t count);

struct WriteStats {
  int64_t raw = 0;          // bytes of values
  int64_t stored = 0;       // bytes that were written for them
  int64_t referenced = 0;   // raw bytes that an earlier checkpoint holds
  int64_t differences = 0;  // raw bytes that were written as differences
  WriteStats& operator+=(const WriteStats& other);
};

// Whether blocks are stored as differences from earlier ones: kTry asks the slice's first changed block.
enum class Differences : uint8_t { kNever, kTry, kAlways };

// One data file and its index as they grow. One thread. Throws StorageError.
class BlockWriter {
 public:
  // dir: that holds the checkpoints; folder: this one's name when it is complete; files are made in dir/written_as.
  BlockWriter(const std::string& dir, const std::string& folder, const std::string& written_as, int writer);
  ~BlockWriter();
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  // The values of one slice. Blocks whose digests are those of `earlier` (may be empty) are referred to. Returns the
  // first block's number. Without `earlier` a slice may come in several calls, all but the last of whole blocks. With a
  // lossy codec a block's digest is that of the values that come back.
  int64_t append(std::span<const char> values, DType dtype, CodecId codec, const EarlierBlocks& earlier,
                 Differences differences);
  // Writes the index; both files are on the disk when it returns.
  StoredFiles finish();

  const BlockIndex& index() const { return index_; }
  BlockSource own() const { return {folder_, data_file_name(writer_)}; }
  const WriteStats& stats() const { return stats_; }

 private:
  class File;
  bool refer(const EarlierBlock& earlier, const Digest& digest, size_t raw);
  bool pays(std::span<const char> first, DType dtype, CodecId codec, const EarlierBlock& earlier);
  size_t encode_difference(std::span<const char> raw, DType dtype, const EarlierBlock& earlier);
  void append_difference(std::span<const char> raw, DType dtype, const EarlierBlock& earlier, BlockRecord record);
  void append_plain(std::span<const char> raw, DType dtype, CodecId codec, BlockRecord record);
  size_t encode(std::span<const char> raw, DType dtype, CodecId codec);
  void write(std::span<const char> stored, BlockRecord record);
  Codec& codec(CodecId id);
  BlockRecord foreign(const BlockSource& source, BlockRecord record);

  std::string folder_, written_as_;
  int writer_;
  std::unique_ptr<File> file_;
  BlockIndex index_;
  std::vector<BlockRecord>
      bases_;  // of differences; they go behind the last block, and `base` counts in here till then
  WriteStats stats_;
  DataFiles earlier_files_;
  std::array<std::unique_ptr<Codec>, 6> codecs_;
  std::vector<char> encoded_, base_;
};

}  // namespace deepflow
