#pragma once

#include "checkpoint/digest.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/state.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

// What a checkpoint holds and where: manifest.json, and the commit record that makes its folder count
// (docs/formats/blockstore.md).

// Of one writer, whose number it is in Manifest::files.
struct StoredFiles {
  uint64_t data_bytes = 0, index_bytes = 0;
  Digest index_digest;  // of index-NNNNN
};

// Boxes of a tensor as one writer stored them: their values, one box behind another, are the raw bytes of its blocks.
struct StoredSlice {
  int file = 0;  // the writer
  int64_t first_block = 0, num_blocks = 0;
  int contributor = 0;  // StateEntry::contributor
  std::vector<Box> boxes;
};

struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  Reshard rule = Reshard::kSlice;
  std::vector<StoredSlice> slices;
  int64_t slice_bytes(const StoredSlice& slice) const;
};

struct Manifest {
  int64_t step = 0;
  std::string run = "{}";  // a JSON object: recipe, layout, tokenizer, versions; for people and tools
  std::vector<StoredFiles> files;
  std::vector<StoredTensor> tensors;  // by name

  const StoredTensor* find(std::string_view name) const;
  int64_t raw_bytes() const;
  // "nf4", "int8": an export whose values are not those that were trained; "" for all others. `run` says so.
  std::string lossy() const;
  std::string write() const;
  // Throws DataError, one line that begins with `path`: grammar, version, numbers out of range, slices that do not lie
  // in their tensor or whose blocks are too few. What it returns can be followed without further checks.
  static Manifest read(std::string_view text, const std::string& path);
};

struct CommitRecord {
  uint64_t manifest_bytes = 0;
  Digest manifest_digest;
  std::string write() const;
  static CommitRecord read(std::string_view text, const std::string& path);  // throws DataError
};

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kCommitName = "commit";

std::string to_hex(const Digest& digest);  // 32 digits

}  // namespace deepflow
