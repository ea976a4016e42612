#include "engine/generator.h"

#include "core/error.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace deepflow {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// A pass over `count` rows of each sequence that stand behind what the cache counts; the caller advances it.
ForwardContext rows_behind(Machine& machine, KeyValueCache& cache, int64_t samples, int64_t count,
                           std::vector<int32_t>& positions) {
  positions.clear();
  for (int64_t s = 0; s < samples; ++s)
    for (int64_t i = 0; i < count; ++i) positions.push_back(static_cast<int32_t>(cache.length() + i));
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.compute = machine.store.compute();
  context.cache = &cache;
  context.rows.batch = samples;
  context.rows.sequence = count;
  context.rows.positions = Tensor::wrap(positions.data(), {samples * count}, DType::kI32);
  return context;
}

Tensor token_ids(std::vector<int32_t>& tokens, int64_t rows) {
  return Tensor::wrap(tokens.data(), {rows}, DType::kI32);
}

// Rows [first, end) of each sequence of `count` rows. They are a matrix with a larger row stride, which products have
// no fast way to read: a copy.
Tensor part_of_sequences(Runtime& runtime, const Tensor& hidden, int64_t count, int64_t first, int64_t end) {
  if (first == 0 && end == count) return hidden;
  const int64_t samples = hidden.rows() / count, width = hidden.cols();
  Tensor part = Tensor::empty(runtime.memory(), {samples, (end - first) * width}, hidden.dtype());
  copy(runtime, hidden.view({samples, count * width}).column_range(first * width, end * width), part);
  return part.view({samples * (end - first), width});
}

// The model's rows [samples * count, width], in front of its head.
Tensor main_rows(Machine& machine, KeyValueCache& cache, std::vector<int32_t>& tokens, int64_t samples, int64_t count) {
  std::vector<int32_t> positions;
  ForwardContext context = rows_behind(machine, cache, samples, count, positions);
  return machine.model.hidden(context, token_ids(tokens, samples * count)).value;
}

// The module's, of the rows that the model gave for the same places; tokens: the one behind each row.
Tensor rows_ahead(Machine& machine, KeyValueCache& cache, const Tensor& hidden, std::vector<int32_t>& tokens,
                  int64_t samples, int64_t count) {
  std::vector<int32_t> positions;
  ForwardContext context = rows_behind(machine, cache, samples, count, positions);
  return machine.model.hidden_ahead(context, {hidden}, token_ids(tokens, samples * count)).value;
}

Tensor logits_of(Machine& machine, const Tensor& hidden) {
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.compute = machine.store.compute();
  return machine.model.logits_of(context, hidden);
}

// Texts that grow from a prompt that has been read, one or two tokens a round.
class Continuation {
 public:
  Continuation(Machine& machine, KeyValueCache cache, int64_t samples, int64_t limit, int32_t stop_token,
               const SamplingOptions& options, const std::function<void(int64_t, int32_t)>& on_token)
      : machine_(machine),
        cache_(std::move(cache)),
        samples_(samples),
        limit_(limit),
        stop_token_(stop_token),
        options_(options),
        on_token_(on_token),
        site_(random_site(options.seed, "generate")),
        ended_(static_cast<size_t>(samples), 0),
        chosen_(2, std::vector<int32_t>(static_cast<size_t>(samples))),
        drafts_(static_cast<size_t>(samples)) {}

  // hidden, logits: of the row behind which all texts begin, the last that the cache has memory of; it counts the rows
  // before it.
  void run(const Tensor& hidden, Tensor logits, GenerationFigures& figures) {
    Tensor rows = repeated(hidden);
    int64_t count = 1, logits_step = 0;  // rows of each sequence in the pass; in its logits, between sequences
    while (done_ < limit_) {
      const int64_t grown = choose(logits, count, logits_step, figures);
      if (done_ >= limit_ || all_ended()) return;
      const bool drafts = options_.speculate && limit_ - done_ > 1;
      if (drafts) draft(part_of_sequences(machine_.runtime, rows, count, 0, grown), grown);
      cache_.advance(grown);  // rows behind drafts that were not taken are overwritten
      count = logits_step = drafts ? 2 : 1;
      std::vector<int32_t> tokens;
      for (size_t s = 0; s < ended_.size(); ++s) {
        tokens.push_back(chosen_[static_cast<size_t>(grown - 1)][s]);
        if (drafts) tokens.push_back(drafts_[s]);
      }
      rows = main_rows(machine_, cache_, tokens, samples_, count);
      logits = logits_of(machine_, rows);
    }
  }

 private:
  Tensor repeated(const Tensor& row) const {
    Tensor rows = Tensor::empty(machine_.runtime.memory(), {samples_, row.cols()}, row.dtype());
    for (int64_t s = 0; s < samples_; ++s) {
      Tensor to = rows.row_range(s, s + 1);
      copy(machine_.runtime, row, to);
    }
    return rows;
  }

  bool all_ended() const {
    return std::all_of(ended_.begin(), ended_.end(), [](char e) { return e != 0; });
  }

  // Token number `index` of each text that goes on, out of row s * step + first of the logits.
  void pick(const Tensor& logits, int64_t step, int64_t first, int64_t index, std::vector<int32_t>& tokens) const {
    const auto vocabulary = static_cast<size_t>(machine_.model.shape().vocabulary);
    machine_.runtime.pool().parallel_for_dynamic(samples_, [&](int64_t s) {
      if (ended_[static_cast<size_t>(s)]) return;
      const float* row = logits.data<float>() + (s * step + first) * logits.ld();
      tokens[static_cast<size_t>(s)] =
          sample_token({row, vocabulary}, options_, static_cast<double>(random_uniform(site_, s, index)));
    });
  }

  // The next token of each text, and the one behind it where all that go on have drawn what was drafted for them.
  // Returns how many.
  int64_t choose(const Tensor& logits, int64_t count, int64_t step, GenerationFigures& figures) {
    bool all_accepted = count == 2;
    pick(logits, step, 0, done_, chosen_[0]);
    for (size_t s = 0; count == 2 && s < ended_.size(); ++s) {
      if (ended_[s]) continue;
      const bool accepted = chosen_[0][s] == drafts_[s];
      ++figures.drafts;
      if (accepted) ++figures.accepted_drafts;
      all_accepted = all_accepted && accepted;
    }
    report(chosen_[0], figures);
    if (!all_accepted || all_ended()) return 1;
    pick(logits, step, 1, done_, chosen_[1]);
    report(chosen_[1], figures);
    return 2;
  }

  void report(const std::vector<int32_t>& tokens, GenerationFigures& figures) {
    ++done_;
    for (int64_t s = 0; s < samples_; ++s) {
      const auto k = static_cast<size_t>(s);
      if (ended_[k]) continue;
      ++figures.new_tokens;
      ended_[k] = tokens[k] == stop_token_;
      if (!ended_[k]) on_token_(s, tokens[k]);
    }
  }

  // Guesses the token behind those chosen as it will be chosen, with the same random number: near logits give the same.
  void draft(const Tensor& rows, int64_t count) {
    std::vector<int32_t> next;
    for (size_t s = 0; s < ended_.size(); ++s)
      for (int64_t i = 0; i < count; ++i) next.push_back(chosen_[static_cast<size_t>(i)][s]);
    const Tensor ahead = rows_ahead(machine_, cache_, rows, next, samples_, count);
    const Tensor last = part_of_sequences(machine_.runtime, ahead, count, count - 1, count);
    pick(logits_of(machine_, last), 1, 0, done_, drafts_);
  }

  Machine& machine_;
  KeyValueCache cache_;
  const int64_t samples_, limit_;
  const int32_t stop_token_;
  const SamplingOptions& options_;
  const std::function<void(int64_t, int32_t)>& on_token_;
  const RandomSite site_;
  std::vector<char> ended_;
  std::vector<std::vector<int32_t>> chosen_;  // in this round: the next token of each text, the one behind it
  std::vector<int32_t> drafts_;
  int64_t done_ = 0;  // tokens that each text has got
};

}  // namespace

GenerationFigures generate(Machine& machine, std::span<const int32_t> prompt, int64_t samples, int32_t stop_token,
                           const SamplingOptions& options, const std::function<void(int64_t, int32_t)>& on_token) {
  ModelShape shape = machine.model.shape();
  if (options.speculate && shape.mtp == 0)
    throw ConfigError(
        "generate: speculate needs a model with multi-token prediction, and this one has none; leave it out");
  if (options.speculate) shape.layers += shape.mtp;  // that have a part of the cache
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
  const Tensor hidden = main_rows(machine, read_prompt, tokens, 1, length);
  if (options.speculate && length > 1) {
    std::vector<int32_t> next(tokens.begin() + 1, tokens.end());
    rows_ahead(machine, read_prompt, hidden.row_range(0, length - 1), next, 1, length - 1);
  }
  read_prompt.advance(length);
  const Tensor last = hidden.row_range(length - 1, length), logits = logits_of(machine, last);
  KeyValueCache cache = read_prompt.repeated(machine.runtime, samples, length + limit);
  figures.prefill_seconds = now() - begin;

  begin = now();
  cache.truncate(length - 1);
  Continuation(machine, std::move(cache), samples, limit, stop_token, options, on_token).run(last, logits, figures);
  figures.decode_seconds = now() - begin;
  return figures;
}

}  // namespace deepflow
