#include "data/heldout.h"

#include "core/error.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace deepflow {
namespace {

using ::testing::HasSubstr;

TEST(HeldOut, EveryTokenIsALabelOnce) {
  TestFolder folder;
  for (const int tokens : {2, 10, 11, 12, 20, 21, 99}) {
    write_store(folder.file("a"), counting_documents({tokens}), 1000);
    const HeldOut heldout(open_token_store(folder.file("a")), 10, Documents::kJoined);
    const Batch batch = heldout.read(0, heldout.num_windows());
    std::vector<int32_t> labels;
    for (int64_t row = 0; row < batch.rows(); ++row) {
      if (batch.labels[row] == kMaskedLabel) continue;
      labels.push_back(batch.labels[row]);
      EXPECT_EQ(batch.tokens[row] + 1, batch.labels[row]);
    }
    ASSERT_EQ(static_cast<int>(labels.size()), tokens - 1) << tokens;
    for (int i = 0; i < tokens - 1; ++i) EXPECT_EQ(labels[i], i + 1);
    EXPECT_EQ(batch.num_labels, heldout.num_labels());
  }
}

TEST(HeldOut, SeparateDocumentsLoseTheirFirstTokenOnly) {
  TestFolder folder;
  write_store(folder.file("a"), counting_documents({5, 1, 17, 30}), 1000);
  const HeldOut heldout(open_token_store(folder.file("a")), 10, Documents::kSeparate);
  const Batch batch = heldout.read(0, heldout.num_windows());
  EXPECT_EQ(heldout.num_unpredicted(), 4);
  EXPECT_EQ(batch.num_labels, 53 - 4);
  EXPECT_EQ(heldout.num_labels(), 53 - 4);
}

TEST(HeldOut, AnyCutIntoReadsGivesTheSameWindows) {
  TestFolder folder;
  write_store(folder.file("a"), counting_documents({5, 40, 17, 30}), 1000);
  const HeldOut heldout(open_token_store(folder.file("a")), 10, Documents::kSeparate);
  ASSERT_EQ(heldout.num_windows(), 10);
  const Batch whole = heldout.read(0, 12);
  std::vector<int32_t> labels;
  for (const int64_t first : {0, 3, 6, 9}) {
    const Batch part = heldout.read(first, 3);
    labels.insert(labels.end(), part.labels.begin(), part.labels.end());
  }
  EXPECT_EQ(labels, whole.labels);
  for (int64_t row = 100; row < 120; ++row) EXPECT_EQ(whole.labels[row], kMaskedLabel);
}

TEST(HeldOut, BitsPerByteChargesTokensThatAreNoLabel) {
  TestFolder folder;
  write_store(folder.file("a"), counting_documents({10, 22}), 1024);  // 3 bytes of text a token
  const auto store = open_token_store(folder.file("a"));
  const HeldOut separate(store, 8, Documents::kSeparate), joined_text(store, 8, Documents::kJoined);
  // A model that knows nothing costs log2(V) for every token, whatever the documents.
  const double nats = std::log(1024.0);
  EXPECT_NEAR(separate.bits_per_byte(30 * nats, 1024), 32 * 10.0 / 96, 1e-12);
  EXPECT_NEAR(joined_text.bits_per_byte(31 * nats, 1024), 32 * 10.0 / 96, 1e-12);
  write_megatron<uint16_t>(folder.file("b"), counting_documents({10, 22}), 8);
  const HeldOut foreign(open_token_store(folder.file("b")), 8, Documents::kJoined);
  EXPECT_THAT(message_of<DataError>([&] { foreign.bits_per_byte(1, 1024); }), HasSubstr("how many bytes of text"));
}

}  // namespace
}  // namespace deepflow
