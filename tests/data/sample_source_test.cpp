#include "data/sample_source.h"

#include "core/error.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace deepflow {
namespace {

using ::testing::HasSubstr;

Batch read_sample(const SampleSource& source, int64_t sample) {
  Batch batch;
  batch.resize(1, source.options().sequence);
  source.read(sample, 0, &batch);
  return batch;
}

class SampleSourceTest : public ::testing::Test {
 protected:
  WeightedStore store(const std::string& name, const std::vector<int>& lengths, double weight = 1,
                      const std::string& tokenizer = "t") {
    write_store(folder_.file(name), counting_documents(lengths, 60000), 60000, tokenizer);
    return {open_token_store(folder_.file(name)), weight};
  }
  TestFolder folder_;
};

TEST_F(SampleSourceTest, UnshuffledSamplesFollowTheText) {
  const SampleSource source({store("a", {103})}, {10, Documents::kJoined, false, 0});
  for (int64_t i = 0; i < 10; ++i) {
    const Batch batch = read_sample(source, i);
    for (int t = 0; t < 10; ++t) {
      EXPECT_EQ(batch.tokens[t], i * 10 + t);
      EXPECT_EQ(batch.labels[t], i * 10 + t + 1);
    }
  }
  EXPECT_EQ(read_sample(source, 10).tokens[0], 0);  // the second epoch
}

TEST_F(SampleSourceTest, EveryEpochReadsEachWindowOnceInItsOwnOrder) {
  const SampleSource source({store("a", {1003})}, {10, Documents::kJoined, true, 7});
  std::vector<std::vector<int32_t>> orders;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    std::map<int32_t, int> label_count;
    std::vector<int32_t> order;
    for (int64_t i = 0; i < 100; ++i) {
      const Batch batch = read_sample(source, epoch * 100 + i);
      order.push_back(batch.tokens[0]);
      for (const int32_t label : batch.labels) ++label_count[label];
    }
    EXPECT_EQ(label_count.size(), 1000u) << "epoch " << epoch;
    orders.push_back(order);
  }
  for (size_t a = 0; a < orders.size(); ++a) {
    for (size_t b = 0; b < a; ++b) EXPECT_NE(orders[a], orders[b]);
  }
}

TEST_F(SampleSourceTest, WindowsAroundTheEndOfTheStoreKeepDocumentsApart) {
  const SampleSource source({store("a", {40, 63})}, {10, Documents::kSeparate, true, 3});
  int wrapped = 0;
  for (int64_t i = 10; i < 1000; ++i) {
    const Batch batch = read_sample(source, i);
    for (int t = 0; t < 10; ++t) {
      const bool last_of_document = batch.tokens[t] == 39 || batch.tokens[t] == 102;
      EXPECT_EQ(batch.labels[t], last_of_document ? kMaskedLabel : batch.tokens[t] + 1);
      if (batch.tokens[t] == 102 && t < 9) {
        ++wrapped;
        EXPECT_EQ(batch.tokens[t + 1], 0);
        EXPECT_EQ(batch.positions[t + 1], 0);
        EXPECT_EQ(batch.doc_start[t + 1], t + 1);
      }
    }
  }
  EXPECT_GT(wrapped, 10);
}

TEST_F(SampleSourceTest, StoresGiveTheirWeightsShare) {
  const SampleSource source({store("a", {2000}, 3), store("b", {3000}, 1)}, {10, Documents::kSeparate, true, 7});
  int from_a = 0;
  for (int64_t i = 0; i < 400; ++i) from_a += source.place(i).store == 0;
  EXPECT_EQ(from_a, 300);
  EXPECT_EQ(source.place(399).store, 0);
  EXPECT_EQ(source.place(399).epoch, 1);  // 200 windows, 299 given before
  EXPECT_EQ(source.num_tokens(), 5000);
}

TEST_F(SampleSourceTest, DigestChangesWithWhateverChangesSamples) {
  const WeightedStore a = store("a", {500}), b = store("b", {600});
  const SampleOptions base{10, Documents::kSeparate, true, 7};
  const std::string digest = SampleSource({a, b}, base).digest();
  EXPECT_EQ(digest, SampleSource({a, b}, base).digest());
  EXPECT_NE(digest, SampleSource({b, a}, base).digest());
  EXPECT_NE(digest, SampleSource({a, {b.store, 2}}, base).digest());
  EXPECT_NE(digest, SampleSource({a, b}, {11, Documents::kSeparate, true, 7}).digest());
  EXPECT_NE(digest, SampleSource({a, b}, {10, Documents::kJoined, true, 7}).digest());
  EXPECT_NE(digest, SampleSource({a, b}, {10, Documents::kSeparate, false, 7}).digest());
  EXPECT_NE(digest, SampleSource({a, b}, {10, Documents::kSeparate, true, 8}).digest());
}

TEST_F(SampleSourceTest, ShortStoreAndMixedTokenizersAreRefused) {
  EXPECT_THAT(message_of<DataError>([&] { SampleSource({store("a", {10})}, {10}); }),
              HasSubstr("10 tokens, fewer than one sample of 10"));
  SampleSource({store("a", {11})}, {10});
  EXPECT_THAT(message_of<DataError>([&] {
                SampleSource({store("a", {99}, 1, "x"), store("b", {99}, 1, "y")}, {10});
              }),
              HasSubstr("was tokenised with tokenizer y"));
}

}  // namespace
}  // namespace deepflow
