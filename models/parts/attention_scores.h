#pragma once

#include "kernels/ops/attention.h"
#include "parallel/context_parallel.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// Rows of a parameter that the scores of a layer are linear in, the same of every head: of head h rows h * per_head +
// first and `count - 1` behind it. What multiplies every head's scores by c multiplies them by c^power.
struct ScoreRows {
  const Parameter* parameter = nullptr;
  int64_t per_head = 1, first = 0, count = 1;
  double power = 1;
};

// A layer of attention as those see it who keep its scores small (engine/qk_clip.h).
struct AttentionLayer {
  std::string name;             // of the layer, in front of its statistics
  int64_t heads = 1;            // of queries, on all ranks
  const char* bound = nullptr;  // what keeps its scores small anyway; null: nothing does
  // Together they multiply a head's scores and those of no other one: what heads share, grouped keys and the rotated
  // columns of latent attention's keys, is left alone, and the queries take its part (Kimi K2, arXiv 2507.20534,
  // section 2.1, which says so of the latter).
  std::vector<ScoreRows> rows;
};

// Whether and as what a layer reports its scores: with context.statistics every pass raises the maximum
// score_name(name, first_head + h) to the largest score of local head h, scale * q . k, over the pass's rows.
struct ScoreWatch {
  std::string name;
  bool on = false;
  int64_t first_head = 0;  // local head 0
};
std::string score_name(const std::string& layer, int64_t head);

// context_attention, watched.
Var watched_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel* cp,
                      const ScoreWatch& watch);

}  // namespace deepflow
