// The records of blocks: index-NNNNN of a checkpoint.
#include "checkpoint/blockstore/block_index.h"
#include "tests/fuzz/fuzz.h"

namespace deepflow::fuzz {

void run_input(std::string_view bytes) {
  const BlockIndex index = BlockIndex::read(bytes, "index-00000");
  for (const BlockRecord& r : index.records) {
    expect(r.raw > 0 && r.raw <= kBlockBytes, "a block is of some bytes");
    expect(r.source <= index.sources.size(), "a block lies in a file that is named");
    if (r.base != kNoBase) expect(index.records[r.base].raw == r.raw, "a base is as long");
  }
  for (const BlockSource& s : index.sources)
    expect(is_step_folder_name(s.folder) && is_data_file_name(s.file), "a source is a data file of the run");
  expect(index.write() == bytes, "there is one way to write an index");
}

std::vector<std::string> seeds(const std::string&) {
  BlockIndex index;
  index.records.push_back({.offset = 16, .stored = 9, .raw = 24, .base = 2, .codec = CodecId::kDelta});
  index.records.push_back({.offset = 25, .stored = 100, .raw = 262144, .codec = CodecId::kPlanes});
  index.records.push_back(
      {.offset = 99, .stored = 24, .raw = 24, .source = index.source_of({"step-00000003", "data-00012"})});
  return {BlockIndex().write(), index.write()};
}

}  // namespace deepflow::fuzz
