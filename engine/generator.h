#pragma once

#include "engine/sampling.h"
#include "engine/trainer.h"

#include <functional>
#include <span>
#include <vector>

namespace deepflow {

struct GenerationFigures {
  int64_t prompt_tokens = 0;  // read once for all samples
  int64_t new_tokens = 0;     // of all samples
  double prefill_seconds = 0, decode_seconds = 0;
};

// Continues `samples` copies of one prompt with a key-value cache until `stop_token` or max_tokens. Local to a rank.
// on_token(sample, token) is called as soon as a token is chosen; stop_token itself is not reported. The k-th sample's
// tokens depend on (seed, k) only, not on how many samples run beside it: to the last bit for up to 16 samples where
// kernels/ops/few_rows.h serves, else as far as products of different shapes round alike.
// Throws ConfigError when the prompt is empty or prompt and max_tokens exceed the model's positions.
GenerationFigures generate(Machine& machine, std::span<const int32_t> prompt, int64_t samples, int32_t stop_token,
                           const SamplingOptions& options, const std::function<void(int64_t, int32_t)>& on_token);

}  // namespace deepflow
