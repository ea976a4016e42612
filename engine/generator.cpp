#include "engine/generator.h"

#include "core/error.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <chrono>

namespace deepflow {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// One forward pass of `count` new tokens of each sequence; the logits [samples, V] behind the last of them.
Tensor logits_behind(Machine& machine, KeyValueCache& cache, std::vector<int32_t>& tokens, int64_t samples,
                     int64_t count) {
  std::vector<int32_t> positions;
  for (int64_t s = 0; s < samples; ++s)
    for (int64_t i = 0; i < count; ++i) positions.push_back(static_cast<int32_t>(cache.length() + i));
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.compute = machine.store.compute();
  context.cache = &cache;
  context.rows.batch = samples;
  context.rows.sequence = count;
  context.rows.positions = Tensor::wrap(positions.data(), {samples * count}, DType::kI32);
  const Tensor ids = Tensor::wrap(tokens.data(), {samples * count}, DType::kI32);
  const Tensor hidden = machine.model.hidden(context, ids).value;
  cache.advance(count);
  if (count == 1) return machine.model.logits_of(context, hidden);
  // The last row of each sequence: rows count - 1, 2 * count - 1, ... are a matrix with a larger row stride. Products
  // have no fast way to read such strides.
  const int64_t width = hidden.cols();
  Tensor last = context.empty({samples, width}, hidden.dtype());
  copy(machine.runtime, hidden.view({samples, count * width}).column_range((count - 1) * width, count * width), last);
  return machine.model.logits_of(context, last);
}

}  // namespace

GenerationFigures generate(Machine& machine, std::span<const int32_t> prompt, int64_t samples, int32_t stop_token,
                           const SamplingOptions& options, const std::function<void(int64_t, int32_t)>& on_token) {
  const ModelShape& shape = machine.model.shape();
  const auto length = static_cast<int64_t>(prompt.size());
  if (length == 0) throw ConfigError("generate: the prompt is empty; give --prompt at least one token");
  const int64_t limit = std::min(options.max_tokens, shape.max_positions - length);
  if (limit < 0)
    throw ConfigError("generate: the prompt has {} tokens, the model has {} positions", length, shape.max_positions);

  GenerationFigures figures;
  figures.prompt_tokens = length;
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  double begin = now();
  // The prompt is read once, whatever the number of samples: its products have the same shape, hence the same bits.
  KeyValueCache read_prompt(machine.runtime, static_cast<int>(shape.layers), 1, length,
                            cache_shape(shape, options.latent_cache), machine.store.compute());
  Tensor logits = logits_behind(machine, read_prompt, tokens, 1, length);
  KeyValueCache cache = read_prompt.repeated(machine.runtime, samples, length + limit);
  figures.prefill_seconds = now() - begin;

  begin = now();
  std::vector<char> ended(static_cast<size_t>(samples), 0);
  const RandomSite site = random_site(options.seed, "generate");
  tokens.resize(static_cast<size_t>(samples));
  for (int64_t i = 0; i < limit; ++i) {
    machine.runtime.pool().parallel_for_dynamic(samples, [&](int64_t s) {
      const size_t k = static_cast<size_t>(s);
      if (ended[k]) return;
      const float* row = logits.data<float>() + (i == 0 ? 0 : s * logits.ld());
      tokens[k] = sample_token({row, static_cast<size_t>(shape.vocabulary)}, options,
                               static_cast<double>(random_uniform(site, s, i)));
    });
    for (int64_t s = 0; s < samples; ++s) {
      const size_t k = static_cast<size_t>(s);
      if (ended[k]) continue;
      ++figures.new_tokens;
      ended[k] = tokens[k] == stop_token;
      if (!ended[k]) on_token(s, tokens[k]);
    }
    if (i + 1 == limit || std::all_of(ended.begin(), ended.end(), [](char e) { return e != 0; })) break;
    logits = logits_behind(machine, cache, tokens, samples, 1);
  }
  figures.decode_seconds = now() - begin;
  return figures;
}

}  // namespace deepflow
