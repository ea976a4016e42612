#include "engine/evaluator.h"

#include "engine/micro_batch.h"
#include "tests/engine/tiny_run.h"

#include <gtest/gtest.h>

#include <cmath>

namespace deepflow {
namespace {

using namespace testing;

// Summed loss and labels from the logits of one window after the other.
std::pair<double, int64_t> straightforward(TinyRun& run, const HeldOut& heldout) {
  Machine machine = run.session().machine();
  double sum = 0;
  int64_t labels = 0;
  for (int64_t w = 0; w < heldout.num_windows(); ++w) {
    const Batch batch = heldout.read(w, 1);
    MicroBatch input = take_micro_batch(machine.runtime, batch, 0, 1);
    ForwardContext context{machine.runtime, machine.stream, machine.store};
    context.compute = machine.store.compute();
    context.rows = input.rows;
    const Tensor logits = machine.model.logits(context, input.tokens);
    for (int64_t r = 0; r < batch.rows(); ++r) {
      const int32_t label = batch.labels[static_cast<size_t>(r)];
      if (label == kMaskedLabel) continue;
      const float* row = logits.data<float>() + r * logits.ld();
      double total = 0;
      for (int64_t v = 0; v < kVocabulary; ++v) total += std::exp(static_cast<double>(row[v]));
      sum += std::log(total) - static_cast<double>(row[label]);
      ++labels;
    }
  }
  return {sum, labels};
}

TEST(Evaluator, GivesTheMeanLossOfEveryLabel) {
  for (const Documents documents : {Documents::kSeparate, Documents::kJoined}) {
    TinyRun run(TinyOptions{});
    run.train(10);
    const HeldOut heldout(some_text(40), 24, documents);
    Machine machine = run.session().machine();
    const Evaluation e = evaluate(machine, heldout, 0, 1);
    const auto [sum, labels] = straightforward(run, heldout);
    EXPECT_EQ(e.num_labels, labels);
    EXPECT_EQ(e.num_labels, heldout.num_labels());
    EXPECT_NEAR(e.loss, sum / static_cast<double>(labels), 1e-5);
    EXPECT_DOUBLE_EQ(e.perplexity, std::exp(e.loss));
    const double bits = (sum / std::log(2) + static_cast<double>(heldout.num_unpredicted()) * std::log2(257));
    EXPECT_NEAR(e.bits_per_byte, bits / static_cast<double>(heldout.store().source_bytes()), 1e-5);
  }
}

TEST(Evaluator, ReadsTheFirstWindowsOnly) {
  TinyRun run(TinyOptions{});
  const HeldOut heldout(some_text(40), 24, Documents::kJoined);
  Machine machine = run.session().machine();
  EXPECT_EQ(evaluate(machine, heldout, 5, 1).num_labels, 5 * 24);
  EXPECT_EQ(evaluate(machine, heldout, 1'000'000, 1).num_labels, heldout.num_labels());
}

TEST(Evaluator, LeavesTheTrainingAsItIs) {
  TinyOptions options;
  options.family = "gpt2";
  options.dropout = 0.2f;
  TinyRun undisturbed(options), evaluated(options);
  const HeldOut heldout(some_text(10), 24, Documents::kSeparate);
  undisturbed.train(2);
  evaluated.train(2);
  Machine machine = evaluated.session().machine();
  const Evaluation first = evaluate(machine, heldout, 0, 1);
  EXPECT_EQ(evaluate(machine, heldout, 0, 1).loss, first.loss);  // no dropout, nothing is learned
  EXPECT_EQ(undisturbed.curve(3), evaluated.curve(3));
}

TEST(Evaluator, OfATextWithNothingToPredictIsZero) {
  TinyRun run(TinyOptions{});
  Machine machine = run.session().machine();
  const Evaluation e = evaluate(machine, HeldOut(lonely_tokens(), 24, Documents::kSeparate), 0, 1);
  EXPECT_EQ(e.num_labels, 0);
  EXPECT_EQ(e.loss, 0);
}

}  // namespace
}  // namespace deepflow
