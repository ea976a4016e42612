#include "data/packing.h"

#include <gtest/gtest.h>

#include <random>

namespace deepflow {
namespace {

using Row = std::vector<int32_t>;

Batch one_sample(const std::vector<int32_t>& window, const std::vector<int64_t>& starts, Documents documents,
                 int64_t valid) {
  Batch batch;
  batch.resize(1, static_cast<int64_t>(window.size()) - 1);
  pack_sample(window, starts, documents, valid, 0, &batch);
  return batch;
}

TEST(Packing, JoinedSampleIsOneText) {
  const Batch batch = one_sample({10, 11, 12, 13, 14}, {2, 4}, Documents::kJoined, 4);
  EXPECT_EQ(batch.tokens, (Row{10, 11, 12, 13}));
  EXPECT_EQ(batch.labels, (Row{11, 12, 13, 14}));
  EXPECT_EQ(batch.positions, (Row{0, 1, 2, 3}));
  EXPECT_EQ(batch.doc_start, (Row{0, 0, 0, 0}));
  EXPECT_EQ(batch.num_labels, 4);
}

TEST(Packing, SeparateDocumentsRestartAndPredictNothingAcross) {
  const Batch batch = one_sample({10, 11, 12, 13, 14, 15}, {0, 2, 5}, Documents::kSeparate, 5);
  EXPECT_EQ(batch.labels, (Row{11, kMaskedLabel, 13, 14, kMaskedLabel}));
  EXPECT_EQ(batch.positions, (Row{0, 1, 0, 1, 2}));
  EXPECT_EQ(batch.doc_start, (Row{0, 0, 2, 2, 2}));
  EXPECT_EQ(batch.num_labels, 3);
}

TEST(Packing, DocumentsOfOneTokenAndEmptyOnes) {
  const Batch batch = one_sample({10, 11, 12, 13}, {1, 1, 2, 3}, Documents::kSeparate, 3);
  EXPECT_EQ(batch.labels, (Row{kMaskedLabel, kMaskedLabel, kMaskedLabel}));
  EXPECT_EQ(batch.doc_start, (Row{0, 1, 2}));
  EXPECT_EQ(batch.num_labels, 0);
}

TEST(Packing, PaddingIsMasked) {
  for (const Documents documents : {Documents::kSeparate, Documents::kJoined}) {
    const Batch batch = one_sample({10, 11, 12, 99, 99}, {}, documents, 2);
    EXPECT_EQ(batch.tokens, (Row{10, 11, 0, 0}));
    EXPECT_EQ(batch.labels, (Row{11, 12, kMaskedLabel, kMaskedLabel}));
    EXPECT_EQ(batch.num_labels, 2);
  }
}

// The rules, checked row by row on random documents.
TEST(Packing, RandomSamplesFollowTheRules) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    const int T = 1 + static_cast<int>(random() % 40);
    const int64_t valid = static_cast<int64_t>(random() % static_cast<unsigned>(T + 1));
    std::vector<int32_t> window(static_cast<size_t>(T + 1)), document(window.size());
    std::vector<int64_t> starts;
    for (int t = 0; t <= T; ++t) {
      window[t] = t + 100;
      const bool begins = t > 0 && random() % 4 == 0;
      if (begins) starts.push_back(t);
      document[t] = t == 0 ? 0 : document[t - 1] + begins;
    }
    const Batch batch = one_sample(window, starts, Documents::kSeparate, valid);
    int64_t labels = 0;
    for (int t = 0; t < valid; ++t) {
      const bool predicts = document[t] == document[t + 1];
      EXPECT_EQ(batch.labels[t], predicts ? window[t + 1] : kMaskedLabel);
      labels += predicts;
      int first = t;
      while (first > 0 && document[first - 1] == document[t]) --first;
      EXPECT_EQ(batch.doc_start[t], first);
      EXPECT_EQ(batch.positions[t], t - first);
    }
    for (int t = static_cast<int>(valid); t < T; ++t) {
      EXPECT_EQ(batch.labels[t], kMaskedLabel);
      EXPECT_LE(batch.doc_start[t], t);
    }
    EXPECT_EQ(batch.num_labels, labels);
  }
}

TEST(Batch, SliceKeepsWholeSamplesAndCountsItsLabels) {
  Batch batch;
  batch.resize(3, 2);
  batch.first_sample = 40;
  for (int s = 0; s < 3; ++s) {
    pack_sample(std::vector<int32_t>{s * 10, s * 10 + 1, s * 10 + 2}, {}, Documents::kJoined, s == 2 ? 1 : 2, s,
                &batch);
  }
  const Batch part = batch.slice(1, 2);
  EXPECT_EQ(part.first_sample, 41);
  EXPECT_EQ(part.num_samples, 2);
  EXPECT_EQ(part.tokens, (Row{10, 11, 20, 0}));
  EXPECT_EQ(part.labels, (Row{11, 12, 21, kMaskedLabel}));
  EXPECT_EQ(part.positions, (Row{0, 1, 0, 1}));
  EXPECT_EQ(part.num_labels, 3);
  EXPECT_EQ(batch.num_labels, 5);
}

}  // namespace
}  // namespace deepflow
