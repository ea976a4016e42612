#include "models/parts/attention_scores.h"

#include "parallel/ops/context_attention.h"

#include <limits>

namespace deepflow {

std::string score_name(const std::string& layer, int64_t head) { return layer + "/score/" + std::to_string(head); }

Var watched_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel* cp,
                      const ScoreWatch& watch) {
  if (!watch.on || !context.statistics) return context_attention(context, qkv, shape, cp);
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  std::vector<float> largest(static_cast<size_t>(shape.heads), kNone);
  Var o = context_attention(context, qkv, shape, cp, largest);
  for (size_t h = 0; h < largest.size(); ++h)  // under Ulysses other ranks report the other heads
    if (largest[h] != kNone)
      context.statistics->max(score_name(watch.name, watch.first_head + static_cast<int64_t>(h)),
                              static_cast<double>(largest[h]));
  return o;
}

}  // namespace deepflow
