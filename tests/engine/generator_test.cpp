#include "engine/generator.h"

#include "core/error.h"
#include "kernels/ops/matmul.h"
#include "tests/engine/tiny_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace deepflow {
namespace {

using namespace testing;

const std::vector<int32_t> kPrompt = {'t', 'h', 'e', ' ', 'o'};

SamplingOptions sampling(double temperature, int64_t max_tokens, uint64_t seed = 1) {
  SamplingOptions o;
  o.temperature = temperature;
  o.max_tokens = max_tokens;
  o.seed = seed;
  return o;
}

std::vector<std::vector<int32_t>> texts(TinyRun& run, int64_t samples, const SamplingOptions& options,
                                        int32_t stop_token = -1) {
  std::vector<std::vector<int32_t>> found(static_cast<size_t>(samples));
  Machine machine = run.session().machine();
  generate(machine, kPrompt, samples, stop_token, options,
           [&](int64_t s, int32_t token) { found[static_cast<size_t>(s)].push_back(token); });
  return found;
}

// The likeliest next token by a forward pass over the whole sequence, without a cache.
int32_t likeliest_next(TinyRun& run, std::vector<int32_t> tokens) {
  Machine machine = run.session().machine();
  const auto length = static_cast<int64_t>(tokens.size());
  std::vector<int32_t> positions;
  for (int32_t i = 0; i < length; ++i) positions.push_back(i);
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.compute = machine.store.compute();
  context.rows.batch = 1;
  context.rows.sequence = length;
  context.rows.positions = Tensor::wrap(positions.data(), {length}, DType::kI32);
  const Tensor logits = machine.model.logits(context, Tensor::wrap(tokens.data(), {length}, DType::kI32));
  const float* row = logits.data<float>() + (length - 1) * logits.ld();
  return static_cast<int32_t>(std::max_element(row, row + kVocabulary) - row);
}

TEST(Generator, ContinuesAsTheFullForwardPassWould) {
  for (const char* family : {"llama", "gpt2", "qwen2", "qwen3", "gemma2"}) {
    TinyOptions options;
    options.family = family;
    options.window = 7;
    TinyRun run(options);
    run.train(40);
    const std::vector<int32_t> text = texts(run, 1, sampling(0, 30))[0];
    ASSERT_EQ(text.size(), 30u);
    std::vector<int32_t> whole = kPrompt;
    for (const int32_t token : text) {
      EXPECT_EQ(token, likeliest_next(run, whole)) << family << " after " << whole.size();
      whole.push_back(token);
    }
    EXPECT_GT(std::set<int32_t>(text.begin(), text.end()).size(), 1u) << family;
  }
}

TEST(Generator, TextOfASampleDependsOnSeedAndItsNumberOnly) {
  TinyRun run(TinyOptions{});
  run.train(10);
  const auto three = texts(run, 3, sampling(1, 20));
  EXPECT_NE(three[0], three[1]);
  EXPECT_NE(three[1], three[2]);
  EXPECT_EQ(texts(run, 1, sampling(1, 20))[0], three[0]);
  EXPECT_EQ(texts(run, 3, sampling(1, 20)), three);
  EXPECT_NE(texts(run, 1, sampling(1, 20, 2))[0], three[0]);
}

TEST(Generator, UpToSixteenSamplesAreTheSameToTheLastBitInAnyPrecision) {
  for (const char* precision : {"f32", "bf16"}) {
    TinyOptions options;
    options.train.precision = precision;
    TinyRun run(options);
    run.train(10);
    const auto sixteen = texts(run, 16, sampling(1, 20));
    for (const int64_t samples : {1, 2, 7}) {
      const auto fewer = texts(run, samples, sampling(1, 20));
      for (size_t s = 0; s < fewer.size(); ++s) EXPECT_EQ(fewer[s], sixteen[s]) << precision << " of " << samples;
    }
  }
}

TEST(Generator, DerivesOnlyTheFormsThatForwardReads) {
  for (const char* family : {"llama", "gpt2"}) {
    TinyOptions options;
    options.family = family;
    TinyRun run(options);
    texts(run, 2, sampling(1, 5));
    Session& session = run.session();
    int64_t expected = 0;
    for (const Pack& pack : session.registry().packs()) {
      const Role role = pack.members.front()->spec.role;
      const bool product =
          role == Role::kMatrix || role == Role::kHead || (role == Role::kEmbedding && pack.uses_per_pass > 1);
      if (product)
        expected += static_cast<int64_t>(packed_weight_bytes(session.runtime(), session.store().compute(),
                                                             pack.physical_rows, pack.cols, Form::kForward));
    }
    EXPECT_GT(expected, 0);
    EXPECT_EQ(session.store().form_bytes(), expected) << family;
  }
}

TEST(Generator, StopsAtTheStopToken) {
  TinyRun run(TinyOptions{});
  const auto endless = texts(run, 2, sampling(1, 40));
  const int32_t stop = endless[0][6];
  const auto stopped = texts(run, 2, sampling(1, 40), stop);
  for (size_t s = 0; s < 2; ++s) {
    const auto end = std::find(endless[s].begin(), endless[s].end(), stop);
    EXPECT_EQ(stopped[s], std::vector<int32_t>(endless[s].begin(), end)) << s;
  }
}

TEST(Generator, StopsAtTheLastPosition) {
  TinyRun run(TinyOptions{});
  const auto positions = static_cast<size_t>(run.session().model().shape().max_positions);
  EXPECT_EQ(texts(run, 1, sampling(1, 100'000))[0].size(), positions - kPrompt.size());
  EXPECT_TRUE(texts(run, 1, sampling(1, 0))[0].empty());
}

TEST(Generator, CountsItsTokens) {
  TinyRun run(TinyOptions{});
  Machine machine = run.session().machine();
  const GenerationFigures figures = generate(machine, kPrompt, 2, -1, sampling(1, 7), [](int64_t, int32_t) {});
  EXPECT_EQ(figures.prompt_tokens, 5);
  EXPECT_EQ(figures.new_tokens, 14);
  EXPECT_GT(figures.prefill_seconds, 0);
  EXPECT_GT(figures.decode_seconds, 0);
}

TEST(Generator, RefusesPromptsThatDoNotFit) {
  TinyRun run(TinyOptions{});
  Machine machine = run.session().machine();
  EXPECT_THROW(generate(machine, {}, 1, -1, sampling(1, 7), [](int64_t, int32_t) {}), ConfigError);
  const std::vector<int32_t> endless(1000, 'a');
  EXPECT_THROW(generate(machine, endless, 1, -1, sampling(1, 7), [](int64_t, int32_t) {}), ConfigError);
}

}  // namespace
}  // namespace deepflow
