#pragma once

#include <vector>

namespace deepflow {

struct LayerRange {
  int begin = 0, end = 0;
  friend bool operator==(const LayerRange&, const LayerRange&) = default;
};

// Time of forward and backward, in any unit: of a layer, and of what the first and the last chunk have besides.
struct LayerCosts {
  double layer = 1, embedding = 0, head = 0;
};

// Which layers each chunk of a pipeline holds, in the order of the model; rank_of_chunk as in Schedule.
//
// `given` (parallel.layers) says how many layers each chunk gets. Empty: the split whose most expensive rank, over all
// its chunks, is as cheap as any split can make it; among the chunks of a rank the same again. Exact: layers cost the
// same, so it only matters how many a rank gets, and giving each to the rank that it makes the least expensive is
// optimal; ties go to the first.
//
// Every chunk has at least one layer. ConfigError, naming the keys, where that cannot be, or where `given` has the
// wrong count or sum.
std::vector<LayerRange> split_layers(int num_layers, const std::vector<int>& rank_of_chunk,
                                     const std::vector<int>& given, const LayerCosts& costs);

}  // namespace deepflow
