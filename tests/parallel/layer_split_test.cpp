#include "parallel/layer_split.h"

#include "core/error.h"
#include "parallel/schedule_registry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace deepflow {
namespace {

std::vector<int> counts_of(const std::vector<LayerRange>& ranges) {
  std::vector<int> counts;
  for (const LayerRange& r : ranges) counts.push_back(r.end - r.begin);
  return counts;
}

double largest_rank_cost(const std::vector<int>& counts, const std::vector<int>& rank_of_chunk,
                         const LayerCosts& costs) {
  std::vector<double> cost(rank_of_chunk.size(), 0);
  for (size_t c = 0; c < counts.size(); ++c)
    cost[static_cast<size_t>(rank_of_chunk[c])] +=
        counts[c] * costs.layer + (c == 0 ? costs.embedding : 0) + (c + 1 == counts.size() ? costs.head : 0);
  return *std::max_element(cost.begin(), cost.end());
}

// The least largest cost over all splits.
double best_by_trial(int layers, const std::vector<int>& rank_of_chunk, const LayerCosts& costs) {
  double best = 1e300;
  std::vector<int> counts(rank_of_chunk.size(), 1);
  const std::function<void(size_t, int)> place = [&](size_t chunk, int left) {
    if (chunk + 1 == counts.size()) {
      counts[chunk] = left;
      best = std::min(best, largest_rank_cost(counts, rank_of_chunk, costs));
      return;
    }
    for (int n = 1; n <= left - static_cast<int>(counts.size() - chunk - 1); ++n) {
      counts[chunk] = n;
      place(chunk + 1, left - n);
    }
  };
  place(0, layers);
  return best;
}

std::string error_of(int layers, const std::vector<int>& ranks, const std::vector<int>& given) {
  try {
    split_layers(layers, ranks, given, {});
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(LayerSplit, RangesFollowTheGivenList) {
  EXPECT_EQ(split_layers(14, {0, 1, 2, 3}, {3, 4, 4, 3}, {}),
            (std::vector<LayerRange>{{0, 3}, {3, 7}, {7, 11}, {11, 14}}));
}

TEST(LayerSplit, GivenListsThatDoNotFitAreRefused) {
  EXPECT_EQ(
      error_of(14, {0, 1, 2, 3}, {3, 4, 4, 4}),
      "parallel.layers: 3 + 4 + 4 + 4 = 15 layers, and the model has 14 (model.layers); make them add up to that");
  EXPECT_EQ(error_of(14, {0, 1, 2, 3}, {7, 7}),
            "parallel.layers: expected one number for each chunk of the pipeline, 4 (pp x vp), got 2: [7, 7]");
  EXPECT_EQ(error_of(4, {0, 1, 2}, {2, 0, 2}),
            "parallel.layers: every chunk needs at least 1 layer, chunk 1 got 0: [2, 0, 2]");
  EXPECT_EQ(
      error_of(3, {0, 1, 2, 3}, {}),
      "parallel: pp 4 x vp 1 = 4 chunks, and the model has 3 layers (model.layers); every chunk needs at least one: "
      "lower parallel.pp or parallel.vp");
}

TEST(LayerSplit, EvenWithoutOtherCosts) {
  EXPECT_EQ(counts_of(split_layers(12, {0, 1, 2, 3}, {}, {})), (std::vector<int>{3, 3, 3, 3}));
  EXPECT_EQ(counts_of(split_layers(10, {0, 1, 2, 3}, {}, {})), (std::vector<int>{3, 3, 2, 2}));
  EXPECT_EQ(counts_of(split_layers(5, {0}, {}, {})), (std::vector<int>{5}));
}

TEST(LayerSplit, EmbeddingAndHeadCountInTheFirstAndTheLastChunk) {
  EXPECT_EQ(counts_of(split_layers(14, {0, 1, 2, 3}, {}, {1, 1, 1})), (std::vector<int>{3, 4, 4, 3}));
  // A V has both on its first rank, and that rank's chunks are as even as can be.
  EXPECT_EQ(counts_of(split_layers(14, {0, 1, 1, 0}, {}, {1, 0, 2})), (std::vector<int>{4, 4, 4, 2}));
}

TEST(LayerSplit, NoSplitHasACheaperLargestRank) {
  for (const LayerCosts& costs : {LayerCosts{1, 0, 0}, LayerCosts{1, 0.3, 2.4}, LayerCosts{2, 7, 1}})
    for (const char* name : {"1f1b", "interleaved_1f1b", "zb_v"})
      for (int p = 1; p <= 3; ++p) {
        const std::vector<int> ranks =
            make_schedule(name, p, std::string(name) == "interleaved_1f1b" ? 2 : 0, 1).rank_of_chunk;
        for (int layers = static_cast<int>(ranks.size()); layers <= 14; ++layers) {
          const std::vector<int> counts = counts_of(split_layers(layers, ranks, {}, costs));
          EXPECT_GE(*std::min_element(counts.begin(), counts.end()), 1);
          EXPECT_DOUBLE_EQ(largest_rank_cost(counts, ranks, costs), best_by_trial(layers, ranks, costs))
              << name << " on " << p << " ranks, " << layers << " layers";
        }
      }
}

}  // namespace
}  // namespace deepflow
