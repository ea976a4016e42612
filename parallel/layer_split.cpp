#include "parallel/layer_split.h"

#include "core/error.h"

#include <algorithm>
#include <numeric>

namespace deepflow {
namespace {

int count_stages(const std::vector<int>& rank_of_chunk) {
  return *std::max_element(rank_of_chunk.begin(), rank_of_chunk.end()) + 1;
}

void check_given(int num_layers, int num_chunks, const std::vector<int>& given) {
  const std::string list = fmt::format("[{}]", fmt::join(given, ", "));
  if (static_cast<int>(given.size()) != num_chunks)
    throw ConfigError("parallel.layers: expected one number for each chunk of the pipeline, {} (pp x vp), got {}: {}",
                      num_chunks, given.size(), list);
  for (size_t i = 0; i < given.size(); ++i)
    if (given[i] < 1)
      throw ConfigError("parallel.layers: every chunk needs at least 1 layer, chunk {} got {}: {}", i, given[i], list);
  const int sum = std::accumulate(given.begin(), given.end(), 0);
  if (sum != num_layers)
    throw ConfigError("parallel.layers: {}{} layers, and the model has {} (model.layers); make them add up to that",
                      fmt::join(given, " + "), given.size() > 1 ? fmt::format(" = {}", sum) : "", num_layers);
}

// Gives `count` more things, one after the other, to whoever is the least expensive with one more.
void deal(int count, double cost_of_one, std::vector<double>& costs, std::vector<int>& counts) {
  for (int i = 0; i < count; ++i) {
    const size_t best = static_cast<size_t>(std::min_element(costs.begin(), costs.end()) - costs.begin());
    costs[best] += cost_of_one;
    ++counts[best];
  }
}

std::vector<int> even_counts(int num_layers, const std::vector<int>& rank_of_chunk, const LayerCosts& costs) {
  const size_t num_chunks = rank_of_chunk.size();
  const auto num_ranks = static_cast<size_t>(count_stages(rank_of_chunk));
  std::vector<double> chunk_cost(num_chunks, costs.layer), rank_cost(num_ranks, 0);
  chunk_cost.front() += costs.embedding;
  chunk_cost.back() += costs.head;
  for (size_t c = 0; c < num_chunks; ++c) rank_cost[static_cast<size_t>(rank_of_chunk[c])] += chunk_cost[c];
  std::vector<int> more(num_ranks, 0);  // than one layer for each chunk
  deal(num_layers - static_cast<int>(num_chunks), costs.layer, rank_cost, more);

  std::vector<int> counts(num_chunks, 1);
  for (size_t rank = 0; rank < num_ranks; ++rank) {
    std::vector<size_t> chunks;
    std::vector<double> its_costs;
    for (size_t c = 0; c < num_chunks; ++c)
      if (static_cast<size_t>(rank_of_chunk[c]) == rank) {
        chunks.push_back(c);
        its_costs.push_back(chunk_cost[c]);
      }
    std::vector<int> its_counts(chunks.size(), 1);
    deal(more[rank], costs.layer, its_costs, its_counts);
    for (size_t i = 0; i < chunks.size(); ++i) counts[chunks[i]] = its_counts[i];
  }
  return counts;
}

}  // namespace

std::vector<LayerRange> split_layers(int num_layers, const std::vector<int>& rank_of_chunk,
                                     const std::vector<int>& given, const LayerCosts& costs) {
  const int num_chunks = static_cast<int>(rank_of_chunk.size());
  DF_ASSERT(num_chunks > 0 && costs.layer >= 0);
  const int num_stages = count_stages(rank_of_chunk);
  if (num_chunks > num_layers)
    throw ConfigError(
        "parallel: pp {} x vp {} = {} chunks, and the model has {} layers (model.layers); every chunk needs at least "
        "one: lower parallel.pp or parallel.vp",
        num_stages, num_chunks / num_stages, num_chunks, num_layers);
  if (!given.empty()) check_given(num_layers, num_chunks, given);
  const std::vector<int> counts = given.empty() ? even_counts(num_layers, rank_of_chunk, costs) : given;
  std::vector<LayerRange> ranges;
  for (int begin = 0; const int count : counts) {
    ranges.push_back({begin, begin + count});
    begin += count;
  }
  return ranges;
}

}  // namespace deepflow
