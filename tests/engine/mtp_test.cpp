#include "engine/chunk_pass.h"
#include "engine/evaluator.h"
#include "parallel/context_parallel.h"
#include "tests/engine/tiny_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

using namespace testing;

// Two samples of eight rows: documents of three and five rows, then one whose first rows predict nothing.
Batch two_samples() {
  Batch batch;
  batch.resize(2, 8);
  for (int32_t row = 0; row < 16; ++row) {
    const auto i = static_cast<size_t>(row);
    batch.tokens[i] = 100 + row;
    batch.labels[i] = 101 + row;
    const int32_t t = row % 8;
    batch.doc_start[i] = row < 8 && t >= 3 ? 3 : 0;
    batch.positions[i] = t - batch.doc_start[i];
  }
  for (const size_t i : {size_t{2}, size_t{8}, size_t{9}}) batch.labels[i] = kMaskedLabel;
  batch.num_labels = 13;
  return batch;
}

std::vector<int32_t> ints(const Tensor& t) { return {t.data<int32_t>(), t.data<int32_t>() + t.num_elements()}; }

TEST(LookingAhead, SeesTheRowBehindWithinItsDocument) {
  Runtime runtime({.threads = 1});
  const Batch batch = two_samples();
  const MicroBatch m = take_micro_batch(runtime, batch, 0, 2, {{}, nullptr, true});
  EXPECT_EQ(ints(m.next_tokens), (std::vector<int32_t>{101, 102, 102, 104, 105, 106, 107, 107,  //
                                                       109, 110, 111, 112, 113, 114, 115, 115}));
  EXPECT_EQ(ints(m.next_labels), (std::vector<int32_t>{102, -1, -1, 105, 106, 107, 108, -1,  //
                                                       -1, 111, 112, 113, 114, 115, 116, -1}));
  EXPECT_FALSE(take_micro_batch(runtime, batch, 0, 2).next_tokens.defined());
}

// Each rank's rows look at rows that other ranks work on.
TEST(LookingAhead, FollowsRowsToTheirRanks) {
  Runtime runtime({.threads = 1});
  const Batch batch = two_samples();
  const MicroBatch whole = take_micro_batch(runtime, batch, 1, 1, {{}, nullptr, true});
  for (int rank = 0; rank < 2; ++rank) {
    const std::vector<RowSpan> spans = context_spans(8, ContextMethod::kRing, rank, 2);
    const MicroBatch part = take_micro_batch(runtime, batch, 1, 1, {spans, nullptr, true});
    size_t i = 0;
    for (const RowSpan& s : spans)
      for (int64_t t = s.first; t < s.first + s.count; ++t, ++i) {
        EXPECT_EQ(ints(part.next_tokens)[i], ints(whole.next_tokens)[static_cast<size_t>(t)]);
        EXPECT_EQ(ints(part.next_labels)[i], ints(whole.next_labels)[static_cast<size_t>(t)]);
      }
    EXPECT_EQ(i, 4u);
  }
}

TinyOptions with_mtp() {
  TinyOptions o;
  o.family = "mtp";
  return o;
}

// With nothing learnt a loss is log(vocabulary) a target; T - 1 targets are divided by the T labels of the main loss.
TEST(MtpTraining, WeighsItsTargetsAsTheMainLossWeighsItsLabels) {
  TinyOptions o = with_mtp();
  o.documents = Documents::kJoined;
  o.init_std = 1e-4f;
  TinyRun run(o);
  const StepReport r = run.trainer().step();
  EXPECT_NEAR(r.loss, std::log(257.0), 1e-3);
  const auto T = static_cast<double>(o.sequence);
  EXPECT_NEAR(*r.mtp_loss, std::log(257.0) * (T - 1) / T, 1e-3);
}

TEST(MtpTraining, LearnsTheTokenAfterTheNext) {
  TinyRun run(with_mtp());
  const std::vector<StepReport> reports = run.train(120);
  EXPECT_GT(*reports.front().mtp_loss, 4.5);
  EXPECT_LT(reports.back().loss, 1.6);
  EXPECT_LT(*reports.back().mtp_loss, 2.2);
  TinyOptions plain = with_mtp();
  plain.family = "llama";
  EXPECT_FALSE(TinyRun(plain).trainer().step().mtp_loss);
}

TEST(MtpTraining, TiedEmbeddingsAndJoinedDocumentsTrainAsWell) {
  TinyOptions o = with_mtp();
  o.tied = true;
  o.documents = Documents::kJoined;
  TinyRun run(o);
  const std::vector<StepReport> reports = run.train(60);
  EXPECT_LT(*reports.back().mtp_loss, *reports.front().mtp_loss - 1);
}

// Held-out loss is that of the main model.
TEST(MtpTraining, EvaluatesTheMainModel) {
  TinyOptions o = with_mtp();
  TinyRun with(o);
  o.family = "llama";
  TinyRun without(o);
  const HeldOut heldout(some_text(15), 24, Documents::kSeparate);
  Machine a = with.session().machine(), b = without.session().machine();
  EXPECT_EQ(evaluate(a, heldout, 0, 1).loss, evaluate(b, heldout, 0, 1).loss);
}

}  // namespace
}  // namespace deepflow
