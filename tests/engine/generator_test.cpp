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

TinyOptions with_mtp() {
  TinyOptions o;
  o.family = "mtp";
  return o;
}

SamplingOptions speculating(SamplingOptions o) {
  o.speculate = true;
  return o;
}

GenerationFigures figures_of(TinyRun& run, int64_t samples, const SamplingOptions& options) {
  Machine machine = run.session().machine();
  return generate(machine, kPrompt, samples, -1, options, [](int64_t, int32_t) {});
}

// Little trained, so that drafts are often wrong, and well trained, so that most are right.
TEST(Speculation, LeavesTextsAsTheyAre) {
  for (const char* precision : {"f32", "bf16"}) {
    TinyOptions o = with_mtp();
    o.train.precision = precision;
    TinyRun run(o);
    for (const int steps : {0, 10, 60}) {
      run.train(steps);
      for (const int64_t samples : {1, 3})
        for (SamplingOptions plain : {sampling(0, 41), sampling(0.7, 40), sampling(1, 41, 5), sampling(1.5, 2)}) {
          plain.top_p = plain.seed == 5 ? 0.9 : 1;
          EXPECT_EQ(texts(run, samples, speculating(plain)), texts(run, samples, plain))
              << precision << " steps " << steps << " samples " << samples << " at " << plain.temperature;
        }
    }
  }
}

TEST(Speculation, EndsTextsWhereTheyEnd) {
  TinyRun run(with_mtp());
  run.train(60);
  for (const int64_t samples : {1, 3}) {
    const auto endless = texts(run, samples, sampling(1, 40));
    for (size_t place = 3; place < 12; ++place) {
      const int32_t stop = endless[0][place];
      EXPECT_EQ(texts(run, samples, speculating(sampling(1, 40)), stop), texts(run, samples, sampling(1, 40), stop));
    }
  }
  for (const int64_t tokens : {0, 1, 2, 3, 100'000})
    EXPECT_EQ(texts(run, 2, speculating(sampling(1, tokens))), texts(run, 2, sampling(1, tokens))) << tokens;
}

// The rows that the cache counts are those of the text, whatever was drafted: what the module guesses after wrong
// drafts is what it guesses over the whole text without a cache.
TEST(Speculation, DraftsAsTheModuleWouldOverTheWholeText) {
  TinyRun run(with_mtp());
  run.train(60);
  Machine machine = run.session().machine();
  std::vector<int32_t> text = kPrompt;
  const std::vector<int32_t> more = texts(run, 1, sampling(0, 40))[0];
  text.insert(text.end(), more.begin(), more.end());
  const auto length = static_cast<int64_t>(text.size());
  std::vector<int32_t> positions, next(text.begin() + 1, text.end());
  for (int32_t i = 0; i < length; ++i) positions.push_back(i);
  next.push_back(0);
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.rows.batch = 1;
  context.rows.sequence = length;
  context.rows.positions = Tensor::wrap(positions.data(), {length}, DType::kI32);
  const Var hidden = machine.model.hidden(context, Tensor::wrap(text.data(), {length}, DType::kI32));
  const Var ahead = machine.model.hidden_ahead(context, hidden, Tensor::wrap(next.data(), {length}, DType::kI32));
  const Tensor logits = machine.model.logits_of(context, ahead.value);
  // As generation goes: a draft for a place is made when the place before is known, and one that is taken gives two.
  int64_t drafts = 0, accepted = 0;
  const auto first = static_cast<int64_t>(kPrompt.size());
  for (int64_t known = first + 1; known + 1 < length;) {
    const float* row = logits.data<float>() + (known - 2) * logits.ld();
    const auto guess = static_cast<int32_t>(std::max_element(row, row + kVocabulary) - row);
    const bool right = guess == text[static_cast<size_t>(known)];
    ++drafts;
    accepted += right ? 1 : 0;
    known += right ? 2 : 1;
  }
  const GenerationFigures figures = figures_of(run, 1, speculating(sampling(0, 40)));
  EXPECT_EQ(figures.drafts, drafts);
  EXPECT_EQ(figures.accepted_drafts, accepted);
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, drafts);
}

TEST(Speculation, CountsItsDrafts) {
  TinyRun run(with_mtp());
  EXPECT_EQ(figures_of(run, 2, sampling(1, 7)).drafts, 0);
  const GenerationFigures figures = figures_of(run, 2, speculating(sampling(1, 7)));
  EXPECT_EQ(figures.new_tokens, 14);
  EXPECT_GE(figures.drafts, 2 * 3);
  EXPECT_LE(figures.drafts, 2 * 5);
  EXPECT_LE(figures.accepted_drafts, figures.drafts);
}

TEST(Speculation, NeedsMultiTokenPrediction) {
  TinyRun run(TinyOptions{});
  std::string message;
  try {
    texts(run, 1, speculating(sampling(1, 7)));
  } catch (const ConfigError& e) {
    message = e.what();
  }
  EXPECT_THAT(message, ::testing::HasSubstr("needs a model with multi-token prediction"));
}

}  // namespace
}  // namespace deepflow
