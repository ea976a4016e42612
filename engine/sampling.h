#pragma once

#include "core/option.h"

#include <cstdint>
#include <span>

namespace deepflow {

// The `generate` section of a recipe and the options of `deepflow generate`.
struct SamplingOptions {
  double temperature = 0.8;  // 0: always the likeliest token
  int64_t top_k = 0;         // only the k likeliest tokens; 0: all
  double top_p = 0.95;       // only the likeliest tokens whose probabilities reach p (Holtzman et al. 2020); 1: all
  int64_t max_tokens = 200;
  uint64_t seed = 0;
  bool latent_cache = true;  // latent attention: its short rows are stored, not the keys and values of all heads
  bool speculate = false;    // two tokens a pass where multi-token prediction guesses right (engine/generator.h)
};
void declare(OptionGroup& group, SamplingOptions& options);

// The token that `uniform` in [0, 1) picks from softmax(logits / temperature) after top-k and top-p. Ties go to the
// lower id.
int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform);

}  // namespace deepflow
