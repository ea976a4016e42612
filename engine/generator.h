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
  int64_t drafts = 0, accepted_drafts = 0;  // of speculation: tokens guessed, and those that were then chosen
};

// Continues `samples` copies of one prompt with a key-value cache until `stop_token` or max_tokens. Local to a rank.
// on_token(sample, token) is called as soon as a token is chosen; stop_token itself is not reported. The k-th sample's
// tokens depend on (seed, k) only, not on how many samples run beside it: to the last bit for up to 16 samples where
// kernels/ops/few_rows.h serves, else as far as products of different shapes round alike.
//
// With options.speculate (Leviathan et al. 2023; DeepSeek-V3, section 5.4.3) the module of multi-token prediction
// drafts the token behind the one just chosen, and the next pass of the model takes both. Its first row gives the
// logits that it would have given alone, since rows do not see those behind them, and the token is chosen from these
// with the random number of its place. Only where the chosen token is the draft do the second row's logits belong to
// the text, and the token behind is chosen from them in the same way. So by induction the texts are those without
// speculation, for all options of sampling: to the last bit for up to 8 samples where few_rows.h serves. The cache has
// one length: a pass counts for two tokens where the drafts of all samples were taken, otherwise for one. Throws
// ConfigError when the prompt is empty or prompt and max_tokens exceed the model's positions, or when speculation is
// wanted of a model without multi-token prediction.
GenerationFigures generate(Machine& machine, std::span<const int32_t> prompt, int64_t samples, int32_t stop_token,
                           const SamplingOptions& options, const std::function<void(int64_t, int32_t)>& on_token);

}  // namespace deepflow
