#pragma once

#include "engine/machine.h"

#include <optional>
#include <string>
#include <vector>

namespace deepflow {

// The largest score, scale * q . k, of every query head of a layer in a step, over all rows, micro-batches and ranks:
// exactly that number on every layout, up to the rounding of the scores themselves. -infinity: there was no row.
struct LayerScores {
  std::string layer;  // "layers.3.attention"
  std::vector<double> largest;
};

// QK-clip (Kimi K2, arXiv 2507.20534, section 2.1, MuonClip): after an optimizer step every head whose largest score S
// exceeded tau has what its scores are linear in scaled, so that they are multiplied by gamma = tau / S: rows of query
// and key weights by sqrt(gamma) each, biases with them; of latent attention the rotated columns of the queries by
// gamma, those of the keys, which the heads share, not at all. Likewise where several query heads share a key head:
// its rows stay, and the queries' take all of gamma, so that a head is clipped by its own scores and no other one
// changes. Moments stay as they are.
//
// Which rows those are says CausalModel::attention_layers.

// Makes the model report its scores. Throws ConfigError where they are bounded in another way.
void begin_qk_clip(CausalModel& model);
// One of each layer of attention, in order, out of what this rank's passes of a step reported. Collective.
std::vector<LayerScores> max_layer_scores(const Machine& machine, const StatisticsSink& statistics);
// Scales what this rank keeps of the masters. Between the optimizer's update and the exchange of the masters.
void clip_scores(const Machine& machine, const std::vector<LayerScores>& scores, double tau);

// What a run tells of a step's scores.
struct ScoreFigures {
  double largest = 0;   // of all layers and heads
  int64_t clipped = 0;  // heads above tau
};
std::optional<ScoreFigures> score_figures(const std::vector<LayerScores>& scores, double tau);  // none of no layers

}  // namespace deepflow
