#include "engine/expert_load.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deepflow {
namespace {

constexpr size_t kFigures = 4;  // dropped choices, two losses and rows sent, behind the loads

double value_of(const std::map<std::string, double>& sums, const std::string& name) {
  const auto found = sums.find(name);
  return found == sums.end() ? 0 : found->second;
}

}  // namespace

int64_t ExpertLoad::total() const { return std::accumulate(tokens.begin(), tokens.end(), int64_t{0}); }

double ExpertLoad::imbalance() const {
  if (total() == 0) return 1;
  return static_cast<double>(*std::max_element(tokens.begin(), tokens.end())) * static_cast<double>(tokens.size()) /
         static_cast<double>(total());
}

double ExpertLoad::entropy() const {
  if (tokens.size() < 2 || total() == 0) return 1;
  double sum = 0;
  for (const int64_t n : tokens) {
    const double share = static_cast<double>(n) / static_cast<double>(total());
    if (n > 0) sum -= share * std::log(share);
  }
  return sum / std::log(static_cast<double>(tokens.size()));
}

double ExpertLoad::dropped_share() const {
  return total() > 0 ? static_cast<double>(dropped) / static_cast<double>(total()) : 0;
}

std::vector<ExpertLoad> sum_expert_loads(const Machine& machine, const StatisticsSink& statistics) {
  const std::vector<ExpertLayer>& layers = machine.model.expert_layers();
  std::vector<double> figures;
  for (const ExpertLayer& layer : layers) {
    std::vector<double> load(static_cast<size_t>(layer.experts));
    const auto found = statistics.rows().find(layer.name + "/load");
    const bool counts = found != statistics.rows().end();  // every rank counts the rows that it deals to experts
    if (counts) load = found->second;
    figures.insert(figures.end(), load.begin(), load.end());
    for (const char* name : {"/dropped", "/balance_loss", "/z_loss", "/sent"})
      figures.push_back(counts ? value_of(statistics.sums(), layer.name + name) : 0);
  }
  figures = sum_doubles(machine.world(), figures, "expert load");
  std::vector<ExpertLoad> loads;
  const double* next = figures.data();
  for (const ExpertLayer& layer : layers) {
    ExpertLoad load;
    load.layer = layer.name;
    for (int64_t e = 0; e < layer.experts; ++e) load.tokens.push_back(std::llround(next[e]));
    next += layer.experts;
    load.dropped = std::llround(next[0]);
    load.balance_loss = next[1];
    load.z_loss = next[2];
    load.sent = std::llround(next[3]);
    load.closest = -value_of(statistics.maxima(), layer.name + "/closest");
    next += kFigures;
    loads.push_back(std::move(load));
  }
  return loads;
}

void move_router_biases(const Machine& machine, const std::vector<ExpertLoad>& loads) {
  const std::vector<ExpertLayer>& layers = machine.model.expert_layers();
  for (const ShardPiece& piece : machine.store.pieces())
    for (size_t i = 0; i < layers.size(); ++i) {
      if (piece.parameter->pack != layers[i].bias) continue;
      float* bias = machine.store.master_piece(piece).data<float>();
      const std::vector<int64_t>& tokens = loads[i].tokens;
      const int64_t total = loads[i].total();
      for (int64_t e = piece.box.lo[0]; e < piece.box.hi[0]; ++e) {
        const int64_t above = tokens[static_cast<size_t>(e)] * layers[i].experts - total;
        const double sign = above < 0 ? 1 : above > 0 ? -1 : 0;
        bias[e - piece.box.lo[0]] += static_cast<float>(sign * layers[i].bias_rate);
      }
      machine.store.written(*piece.parameter->pack);
    }
}

}  // namespace deepflow
