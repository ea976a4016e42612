#pragma once

#include "checkpoint/codecs/codec.h"
#include "checkpoint/digest.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

// The blocks that one writer stored, or refers to: the file index-NNNNN of a checkpoint (docs/formats/blockstore.md).

inline constexpr int64_t kBlockBytes = 256 << 10;  // most raw bytes of a block
inline constexpr uint32_t kNoBase = 0xffffffff;

struct BlockRecord {
  uint64_t offset = 0;           // of the stored bytes in their file
  Digest digest;                 // of the raw bytes
  uint32_t stored = 0, raw = 0;  // bytes
  uint32_t source = 0;           // 0: the data file beside this index; else sources[source - 1]
  uint32_t base = kNoBase;       // kDelta: the record of the block that it is a difference from
  CodecId codec = CodecId::kRaw;
};

// A data file of an earlier checkpoint of the same run.
struct BlockSource {
  std::string folder, file;  // "step-00000200", "data-00003"
  friend bool operator==(const BlockSource&, const BlockSource&) = default;
};

struct BlockIndex {
  std::vector<BlockSource> sources;
  std::vector<BlockRecord> records;

  std::string write() const;
  // Of a whole file. Throws DataError, one line that begins with `path`: magic, version, lengths, numbers out of range,
  // folders that are no sibling's. What it returns can be followed without further checks, but for the end of a file.
  static BlockIndex read(std::string_view bytes, const std::string& path);
  uint32_t source_of(const BlockSource& source);  // its number, entered where it is new
};

// What a data file begins with.
inline constexpr std::string_view kDataMagic{"DeepFlow\1\0\0\0DATA", 16};

// Names of folders and files: "step-" and at least 8 digits, "data-" or "index-" and at least 5.
std::string step_folder_name(int64_t step);
bool is_step_folder_name(std::string_view name);
std::string data_file_name(int writer);
std::string index_file_name(int writer);
bool is_data_file_name(std::string_view name);

}  // namespace deepflow
