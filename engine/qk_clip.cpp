#include "engine/qk_clip.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace deepflow {
namespace {

// Multiplies the rows of a piece that belong to heads above tau.
void clip_rows(const ShardPiece& piece, float* values, const ScoreRows& rows, const std::vector<double>& largest,
               double tau) {
  const int64_t begin = piece.box.lo[0], end = piece.box.hi[0], cols = (piece.end - piece.begin) / (end - begin);
  for (int64_t row = begin; row < end; ++row) {
    const double score = largest[static_cast<size_t>(row / rows.per_head)];
    const int64_t at = row % rows.per_head - rows.first;
    if (score <= tau || at < 0 || at >= rows.count) continue;
    const auto factor = static_cast<float>(std::pow(tau / score, rows.power));
    float* to = values + (row - begin) * cols;
    for (int64_t j = 0; j < cols; ++j) to[j] *= factor;
  }
}

}  // namespace

void begin_qk_clip(CausalModel& model) {
  for (const AttentionLayer& layer : model.attention_layers())
    if (layer.bound)
      throw ConfigError("optim.qk_clip: {}: {}, which bounds the scores already; take optim.qk_clip: 0", layer.name,
                        layer.bound);
  model.watch_scores();
}

std::vector<LayerScores> max_layer_scores(const Machine& machine, const StatisticsSink& statistics) {
  const std::vector<AttentionLayer> layers = machine.model.attention_layers();
  std::vector<double> all;
  for (const AttentionLayer& layer : layers)
    for (int64_t h = 0; h < layer.heads; ++h) {
      const auto found = statistics.maxima().find(score_name(layer.name, h));
      all.push_back(found == statistics.maxima().end() ? -std::numeric_limits<double>::infinity() : found->second);
    }
  all = max_doubles(machine.world(), all, "attention scores");
  std::vector<LayerScores> scores;
  auto next = all.begin();
  for (const AttentionLayer& layer : layers) {
    scores.push_back({layer.name, {next, next + layer.heads}});
    next += layer.heads;
  }
  return scores;
}

void clip_scores(const Machine& machine, const std::vector<LayerScores>& scores, double tau) {
  const std::vector<AttentionLayer> layers = machine.model.attention_layers();
  const std::vector<ShardPiece> pieces = machine.store.pieces();
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::vector<double>& largest = scores[i].largest;
    if (std::none_of(largest.begin(), largest.end(), [&](double s) { return s > tau; })) continue;
    for (const ScoreRows& rows : layers[i].rows)
      for (const ShardPiece& piece : pieces)
        if (piece.parameter == rows.parameter) {
          clip_rows(piece, machine.store.master_piece(piece).data<float>(), rows, largest, tau);
          machine.store.written(*piece.parameter->pack);
        }
  }
}

std::optional<ScoreFigures> score_figures(const std::vector<LayerScores>& scores, double tau) {
  if (scores.empty()) return std::nullopt;
  ScoreFigures figures{-std::numeric_limits<double>::infinity(), 0};
  for (const LayerScores& layer : scores)
    for (const double s : layer.largest) {
      figures.largest = std::max(figures.largest, s);
      if (s > tau) ++figures.clipped;
    }
  return figures;
}

}  // namespace deepflow
