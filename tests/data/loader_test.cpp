#include "data/loader.h"

#include "core/error.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using ::testing::HasSubstr;

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() {
    write_store(folder_.file("a"), counting_documents({700, 13, 900, 500}, 50000), 50000);
    write_megatron<uint16_t>(folder_.file("b"), counting_documents({500, 500}, 50000, 20000), 8);
    source_ = std::make_shared<SampleSource>(
        std::vector<WeightedStore>{{open_token_store(folder_.file("a")), 2}, {open_token_store(folder_.file("b")), 1}},
        SampleOptions{16, Documents::kSeparate, true, 11});
  }
  TestFolder folder_;
  std::shared_ptr<const SampleSource> source_;
};

void append(std::vector<int32_t>& to, const std::vector<int32_t>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

TEST_F(LoaderTest, AnyNumberOfRanksSeesTheSameSamples) {
  const int64_t kBatch = 12, kSteps = 30;  // more than two epochs of either store
  Loader alone(source_, {kBatch});
  std::vector<Batch> expected;
  for (int64_t step = 0; step < kSteps; ++step) expected.push_back(alone.next());
  for (const int size : {2, 3, 4, 12}) {
    std::vector<std::unique_ptr<Loader>> ranks;
    for (int rank = 0; rank < size; ++rank)
      ranks.push_back(std::make_unique<Loader>(source_, LoaderOptions{kBatch, rank, size}));
    for (int64_t step = 0; step < kSteps; ++step) {
      Batch all;
      for (auto& rank : ranks) {
        const Batch part = rank->next();
        EXPECT_EQ(part.first_sample, step * kBatch + all.num_samples);
        all.num_samples += part.num_samples;
        all.num_labels += part.num_labels;
        append(all.tokens, part.tokens);
        append(all.labels, part.labels);
        append(all.positions, part.positions);
        append(all.doc_start, part.doc_start);
      }
      const Batch& whole = expected[static_cast<size_t>(step)];
      ASSERT_EQ(all.tokens, whole.tokens) << size << " ranks, step " << step;
      ASSERT_EQ(all.labels, whole.labels);
      ASSERT_EQ(all.positions, whole.positions);
      ASSERT_EQ(all.doc_start, whole.doc_start);
      ASSERT_EQ(all.num_labels, whole.num_labels);
    }
  }
}

TEST_F(LoaderTest, CursorIsAllItsState) {
  Loader loader(source_, {8});
  for (int step = 0; step < 7; ++step) loader.next();
  EXPECT_EQ(loader.cursor(), 56);
  const Batch expected = loader.next();
  Loader resumed(source_, {8}, 56);
  EXPECT_EQ(resumed.next().tokens, expected.tokens);
  loader.seek(56);
  EXPECT_EQ(loader.cursor(), 56);
  EXPECT_EQ(loader.next().tokens, expected.tokens);
  EXPECT_EQ(loader.cursor(), 64);
}

TEST_F(LoaderTest, ChangedBatchGoesOnWhereTheOtherStopped) {
  Loader four(source_, {4}, 8), eight(source_, {8}, 8);
  std::vector<int32_t> tokens = four.next().tokens;
  append(tokens, four.next().tokens);
  EXPECT_EQ(tokens, eight.next().tokens);
}

TEST_F(LoaderTest, StopsWhileTheQueueIsFullOrEmpty) {
  for (int round = 0; round < 50; ++round) {
    Loader loader(source_, {64, 0, 1, 1});
    if (round % 2) loader.next();
    if (round % 3) loader.seek(round);
  }
}

TEST_F(LoaderTest, ErrorOfTheThreadReachesTheConsumerInItsTurn) {
  // The last document's tokens do not fit the model's vocabulary.
  write_megatron<uint16_t>(folder_.file("c"), {std::vector<int32_t>(1000, 1), std::vector<int32_t>(300, 600)}, 8);
  const auto source =
      std::make_shared<SampleSource>(std::vector<WeightedStore>{{open_token_store(folder_.file("c"), 500), 1}},
                                     SampleOptions{10, Documents::kJoined, false, 0});
  Loader loader(source, {25});
  for (int step = 0; step < 3; ++step) EXPECT_EQ(loader.next().tokens, std::vector<int32_t>(250, 1));
  for (int again = 0; again < 2; ++again) {
    EXPECT_THAT(message_of<DataError>([&] { loader.next(); }), HasSubstr("token 600 at position 1000"));
  }
  loader.seek(0);
  EXPECT_EQ(loader.next().tokens, std::vector<int32_t>(250, 1));
}

TEST_F(LoaderTest, BatchMustDivideOverTheRanks) {
  EXPECT_THAT(message_of<ConfigError>([&] {
                Loader(source_, {10, 0, 4});
              }),
              HasSubstr("10 samples do not divide over 4 data parallel ranks"));
}

}  // namespace
}  // namespace deepflow
