#include "checkpoint/blockstore/block_index.h"
#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/manifest.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/blockstore/tensor_reader.h"
#include "checkpoint/blockstore/verify.h"
#include "core/error.h"
#include "tests/checkpoint/scratch_folder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

namespace deepflow {
namespace {

using testing::ScratchFolder;

std::string bytes_of_hex(std::string_view hex) {
  std::string bytes, digits;
  for (const char c : hex)
    if (c != ' ' && c != '\n') digits += c;
  for (size_t i = 0; i < digits.size(); i += 2) bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

std::string hex_of(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return hex;
}

// The example of docs/formats/blockstore.md, byte by byte: "w" f32 [2, 3] = 1, 2, 3, 4, 5, 6 in one raw block.
const std::string kData = bytes_of_hex(
    "44656570466c6f77 01000000 44415441"
    "0000803f 00000040 00004040 00008040 0000a040 0000c040");
const std::string kIndex = bytes_of_hex(
    "44656570466c6f77 01000000 494e4458"
    "0000000000000000 0100000000000000"
    "1000000000000000 19c0ee4592f35bda 6580bb4455f0f922"
    "18000000 18000000 00000000 ffffffff 00 00000000000000");
constexpr const char* kManifest =
    R"({"files":[{"data_bytes":40,"index_bytes":80,"index_digest":"06b60c3a73187b811ebed46f7db57ea0"}],)"
    R"("format":"deepflow-blockstore","run":{"recipe":"train: {}"},"step":7,"tensors":[{"dtype":"f32","name":"w",)"
    R"("rule":"slice","shape":[2,3],"slices":[{"blocks":1,"boxes":[[[0,0],[2,3]]],"file":0,"first":0}]}],"version":1})"
    "\n";
constexpr const char* kCommit =
    R"({"format":"deepflow-blockstore","manifest_bytes":313,"manifest_digest":"221e09c7db71d9f7500c2e1b00bf6578",)"
    R"("version":1})"
    "\n";

std::string example_index() {
  BlockIndex index;
  index.records.push_back(
      {.offset = 16, .digest = digest_of(std::string_view(kData).substr(16)), .stored = 24, .raw = 24});
  return index.write();
}

Manifest example_manifest() {
  Manifest m;
  m.step = 7;
  m.run = R"({"recipe":"train: {}"})";
  m.files.push_back({kData.size(), example_index().size(), digest_of(example_index())});
  StoredTensor t;
  t.name = "w", t.shape = {2, 3};
  t.slices.push_back({0, 0, 1, 0, {{{0, 0}, {2, 3}}}});
  m.tensors.push_back(t);
  return m;
}

void write_example(const ScratchFolder& folder) {
  begin_checkpoint(folder / "c", "step-00000007");
  folder.write("c/step-00000007.writing/data-00000", kData);
  folder.write("c/step-00000007.writing/index-00000", example_index());
  commit_checkpoint(folder / "c", "step-00000007", example_manifest().write());
}

TEST(BlockStoreFormat, HasGoldenBytes) {
  const ScratchFolder folder;
  write_example(folder);
  EXPECT_EQ(hex_of(example_index()), hex_of(kIndex));
  EXPECT_EQ(folder.read("c/step-00000007/manifest.json"), kManifest);
  EXPECT_EQ(folder.read("c/step-00000007/commit"), kCommit);
  EXPECT_TRUE(verify_checkpoint(folder / "c/step-00000007").is_whole());
}

TEST(BlockStoreFormat, IsReadByBoxes) {
  const ScratchFolder folder;
  write_example(folder);
  const StoredCheckpoint checkpoint(folder / "c/latest");
  EXPECT_EQ(checkpoint.name(), "step-00000007");
  TensorReader reader(checkpoint);
  float got[3];
  reader.read(checkpoint.manifest().tensors.front(), {{{0, 1}, {2, 2}}, {{1, 0}, {2, 1}}},
              {reinterpret_cast<char*>(got), sizeof got});
  EXPECT_EQ(got[0], 2);
  EXPECT_EQ(got[1], 5);
  EXPECT_EQ(got[2], 4);
}

TEST(BlockStoreFormat, IndicesKeepSourcesAndBases) {
  BlockIndex index;
  index.records.push_back({.offset = 16, .stored = 9, .raw = 24, .base = 1, .codec = CodecId::kDelta});
  index.records.push_back(
      {.offset = 99, .stored = 24, .raw = 24, .source = index.source_of({"step-00000003", "data-00012"})});
  EXPECT_EQ(index.source_of({"step-00000003", "data-00012"}), 1u);
  const BlockIndex got = BlockIndex::read(index.write(), "x");
  EXPECT_EQ(got.sources, index.sources);
  ASSERT_EQ(got.records.size(), 2u);
  EXPECT_EQ(got.records[0].base, 1u);
  EXPECT_EQ(got.records[1].source, 1u);
  EXPECT_EQ(got.write(), index.write());
}

// Every prefix, and every flipped bit that the reader does not refuse, is read without harm.
TEST(BlockStoreFormat, RefusesWhatIsTruncated) {
  const std::string index = example_index(), manifest = example_manifest().write();
  for (size_t n = 0; n < index.size(); ++n) EXPECT_THROW(BlockIndex::read(index.substr(0, n), "x"), DataError) << n;
  for (size_t n = 0; n + 1 < manifest.size(); ++n)
    EXPECT_THROW(Manifest::read(manifest.substr(0, n), "x"), DataError) << n;
  const std::string commit = CommitRecord{5, {1, 2}}.write();
  for (size_t n = 0; n + 1 < commit.size(); ++n)
    EXPECT_THROW(CommitRecord::read(commit.substr(0, n), "x"), DataError) << n;
}

TEST(BlockStoreFormat, SurvivesFlippedBits) {
  const std::string whole_index = example_index(), whole_manifest = example_manifest().write();
  size_t refused = 0;
  for (size_t bit = 0; bit < whole_manifest.size() * 8; ++bit) {
    std::string text = whole_manifest;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    try {
      const Manifest m = Manifest::read(text, "x");
      for (const StoredTensor& t : m.tensors)
        for (const StoredSlice& s : t.slices) EXPECT_LT(static_cast<size_t>(s.file), m.files.size());
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, whole_manifest.size());
  for (size_t bit = 0; bit < whole_index.size() * 8; ++bit) {
    std::string bytes = whole_index;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    try {
      for (const BlockRecord& r : BlockIndex::read(bytes, "x").records) EXPECT_LE(r.raw, kBlockBytes);
    } catch (const DataError&) {
    }
  }
}

struct Spoiled {
  const char* from;
  const char* to;
  const char* message;
};

TEST(BlockStoreFormat, RefusesManifestsThatContradictThemselves) {
  const std::string good = example_manifest().write();
  for (const Spoiled& s :
       {Spoiled{R"("version":1)", R"("version":2)", "has version 2"},
        Spoiled{R"("format":"deepflow)", R"("format":"deepfl0w)", "is not the manifest"},
        Spoiled{R"("dtype":"f32")", R"("dtype":"f64")", "unknown kind"},
        Spoiled{R"("shape":[2,3])", R"("shape":[2,2])", "out of range"},
        Spoiled{R"("shape":[2,3])", R"("shape":[2])", "other dims"},
        Spoiled{R"("shape":[2,3])", R"("shape":[281474976710656,3])", "too large"},
        Spoiled{R"("blocks":1)", R"("blocks":2)", "24 bytes in 2 blocks"},
        Spoiled{R"("file":0)", R"("file":1)", "file is 1"}, Spoiled{R"("first":0)", R"("first":-1)", "first is -1"},
        Spoiled{R"([[0,0],[2,3]])", R"([[0,0],[0,3]])", "out of range"},
        Spoiled{R"("step":7)", R"("step":"7")", "step is"},
        Spoiled{R"("run":{)", R"("ran":{)", "says nothing of its run"}}) {
    std::string bad = good;
    ASSERT_NE(bad.find(s.from), std::string::npos) << s.from;
    bad.replace(bad.find(s.from), std::strlen(s.from), s.to);
    try {
      Manifest::read(bad, "file");
      ADD_FAILURE() << s.to;
    } catch (const DataError& e) {
      EXPECT_NE(std::string(e.what()).find(s.message), std::string::npos) << e.what();
      EXPECT_TRUE(std::string(e.what()).starts_with("file: ")) << e.what();
    }
  }
}

TEST(BlockStoreFormat, RefusesReferencesOutsideOfTheRun) {
  for (const char* folder : {"../step-00000001", "step-1", "step-0000000x", "/step-00000001", ""}) {
    BlockIndex index;
    index.source_of({folder, "data-00000"});
    EXPECT_THROW(BlockIndex::read(index.write(), "x"), DataError) << folder;
  }
  BlockIndex index;
  index.source_of({"step-00000001", "../../etc/passwd"});
  EXPECT_THROW(BlockIndex::read(index.write(), "x"), DataError);
}

TEST(BlockStoreFormat, DamageIsNamed) {
  const ScratchFolder folder;
  write_example(folder);
  const std::string data = folder / "c/step-00000007/data-00000";
  const auto damages = [&] { return verify_checkpoint(folder / "c/step-00000007").damages; };
  std::string spoiled = kData;
  spoiled[30] = '!';
  folder.write("c/step-00000007/data-00000", spoiled);
  ASSERT_EQ(damages().size(), 1u);
  EXPECT_EQ(damages().front(), data +
                                   " at byte 16: the block's content does not have its digest; elements 0 to 6 of a "
                                   "slice of w are lost");
  folder.write("c/step-00000007/data-00000", kData + "x");
  EXPECT_EQ(damages().front(), data + ": has 41 bytes, expected 40");
  std::filesystem::remove(data);
  EXPECT_EQ(damages().front(), data + ": is missing");
  folder.write("c/step-00000007/data-00000", kData);
  EXPECT_TRUE(damages().empty());
  folder.write("c/step-00000007/index-00000", example_index() + "x");
  EXPECT_NE(damages().front().find("index-00000: has 81 bytes, expected at most 80"), std::string::npos)
      << damages().front();
  std::filesystem::remove(folder / "c/step-00000007/commit");
  EXPECT_NE(damages().front().find("commit: is missing"), std::string::npos) << damages().front();
}

}  // namespace
}  // namespace deepflow
