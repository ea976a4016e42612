#include "kernels/ops/router_loss.h"

#include "kernels/ops/router.h"
#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <cmath>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::values_of;

constexpr int64_t kExperts = 9, kChoices = 2;

ForwardContext forward(OpBench& bench, Tape* tape, int64_t batch, int64_t sequence) {
  ForwardContext context = bench.forward(tape);
  context.rows.batch = batch;
  context.rows.sequence = sequence;
  return context;
}

Tensor some_choices(OpBench& bench, int64_t rows) {
  Tensor expert = bench.empty({rows, kChoices}, DType::kI32);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < kChoices; ++i)
      expert.data<int32_t>()[r * kChoices + i] = static_cast<int32_t>((r * r + 4 * i) % kExperts);
  return expert;
}

Tensor some_scores(OpBench& bench, int64_t rows) {
  ForwardContext context = bench.forward(nullptr);
  Routing routing;
  routing.score = RouterScore::kSigmoid;
  return route(context, {bench.normal("logits", {rows, kExperts}, DType::kF32, 2)}, routing, nullptr).scores.value;
}

double plain_balance_loss(const Tensor& scores, const Tensor& expert, int64_t batch, int64_t sequence, bool normalise) {
  const auto s = values_of(scores), chosen = values_of(expert);
  double loss = 0;
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<double> f(kExperts), p(kExperts);
    for (int64_t r = b * sequence; r < (b + 1) * sequence; ++r) {
      double sum = 0;
      for (int64_t e = 0; e < kExperts; ++e) sum += s[static_cast<size_t>(r * kExperts + e)];
      for (int64_t e = 0; e < kExperts; ++e)
        p[static_cast<size_t>(e)] +=
            s[static_cast<size_t>(r * kExperts + e)] / (normalise ? sum : 1) / static_cast<double>(sequence);
      for (int64_t i = 0; i < kChoices; ++i)
        f[static_cast<size_t>(chosen[static_cast<size_t>(r * kChoices + i)])] +=
            1.0 / static_cast<double>(sequence * kChoices);
    }
    for (size_t e = 0; e < kExperts; ++e) loss += kExperts * f[e] * p[e];
  }
  return loss;
}

Tensor gradient_of(OpBench& bench, const Tensor& x, int64_t batch, int64_t sequence, float seed,
                   const std::function<Var(ForwardContext&, const Var&)>& loss) {
  Tape tape;
  ForwardContext context = forward(bench, &tape, batch, sequence);
  const Var leaf = tape.leaf(x);
  Tensor gradient = bench.empty({1}, DType::kF32);
  *gradient.data<float>() = seed;
  tape.root(loss(context, leaf), gradient);
  BackwardContext backward = bench.backward();
  tape.backward(backward);
  return tape.take(leaf).value;
}

// Of sequences whose rows are all here.
Var balance_loss_of(ForwardContext& context, const Var& scores, const Tensor& expert, bool normalise, float weight) {
  const int64_t sequence = context.rows.sequence;
  std::vector<int64_t> begin;
  for (int64_t b = 0; b <= context.rows.batch; ++b) begin.push_back(b * sequence);
  const Tensor slopes = balance_slopes(context, expert, sequence, scores.value.cols(), weight);
  return balance_loss(context, scores, slopes, begin, normalise);
}

TEST(BalanceLoss, IsThatOfThePaperForEverySequence) {
  for (const CpuIsa isa : testing::runnable_isas()) {
    RuntimeOptions options;
    options.cpu_isa = isa;
    OpBench bench(DType::kF32, options);
    const Tensor scores = some_scores(bench, 30), expert = some_choices(bench, 30);
    for (const bool normalise : {true, false})
      for (const int64_t batch : {1, 3, 30}) {
        ForwardContext context = forward(bench, nullptr, batch, 30 / batch);
        const float loss = *balance_loss_of(context, {scores}, expert, normalise, 0.25f).value.data<float>();
        EXPECT_NEAR(loss, 0.25 * plain_balance_loss(scores, expert, batch, 30 / batch, normalise), 1e-5 * 8);
      }
  }
}

TEST(BalanceLoss, IsOneWhenAllExpertsAreEquallyLoaded) {
  OpBench bench;
  Tensor scores = bench.empty({kExperts, kExperts}, DType::kF32), expert = bench.empty({kExperts, 1}, DType::kI32);
  fill(bench.runtime, scores, 1.0f / kExperts);
  for (int32_t r = 0; r < kExperts; ++r) expert.data<int32_t>()[r] = r;
  ForwardContext context = forward(bench, nullptr, 1, kExperts);
  EXPECT_NEAR(*balance_loss_of(context, {scores}, expert, false, 1).value.data<float>(), 1, 1e-6);
}

// Two ranks have some rows of each of three sequences, one of them none of the second.
TEST(BalanceLoss, OfRowsOnTwoRanksIsTheSumOfTheirs) {
  OpBench bench;
  const Tensor scores = some_scores(bench, 12), expert = some_choices(bench, 12);
  ForwardContext context = forward(bench, nullptr, 3, 4);
  const Tensor slopes = balance_slopes(context, expert, 4, kExperts, 0.5f);
  double sum = 0;
  const std::vector<std::pair<int64_t, int64_t>> of_rank[] = {{{0, 1}, {4, 4}, {8, 1}}, {{1, 3}, {4, 0}, {9, 3}}};
  for (const auto& spans : of_rank) {
    Tensor own = bench.empty({6, kExperts}, DType::kF32);
    std::vector<int64_t> begin = {0};
    for (const auto& span : spans) {
      for (int64_t r = 0; r < span.second; ++r)
        std::copy_n(scores.data<float>() + (span.first + r) * kExperts, kExperts,
                    own.data<float>() + (begin.back() + r) * kExperts);
      begin.push_back(begin.back() + span.second);
    }
    sum += static_cast<double>(
        *balance_loss(context, {own.row_range(0, begin.back())}, slopes, begin, true).value.data<float>());
  }
  EXPECT_NEAR(sum, 0.5 * plain_balance_loss(scores, expert, 3, 4, true), 1e-6);
}

TEST(BalanceLoss, GradientsMatchDifferenceQuotients) {
  for (const CpuIsa isa : testing::runnable_isas()) {
    RuntimeOptions options;
    options.cpu_isa = isa;
    OpBench bench(DType::kF32, options);
    const Tensor expert = some_choices(bench, 12);
    for (const bool normalise : {true, false}) {
      Tensor scores = some_scores(bench, 12);
      const auto apply = [&](ForwardContext& c, const Var& s) {
        return balance_loss_of(c, s, expert, normalise, 0.5f);
      };
      const Tensor gradient = gradient_of(bench, scores, 3, 4, 3, apply);
      const auto loss = [&] { return 1.5 * plain_balance_loss(scores, expert, 3, 4, normalise); };
      expect_gradient(scores, gradient, loss, 1e-3, 1e-4);
    }
  }
}

TEST(RouterZLoss, IsTheSquareOfTheLogarithmAndItsGradient) {
  for (const CpuIsa isa : testing::runnable_isas()) {
    RuntimeOptions options;
    options.cpu_isa = isa;
    OpBench bench(DType::kF32, options);
    Tensor logits = bench.normal("logits", {12, kExperts}, DType::kF32, 2);
    const auto plain = [&] {
      double loss = 0;
      const auto x = values_of(logits);
      for (size_t r = 0; r < 12; ++r) {
        double sum = 0;
        for (size_t e = 0; e < kExperts; ++e) sum += std::exp(x[r * kExperts + e]);
        loss += std::log(sum) * std::log(sum);
      }
      return 0.1 * loss;
    };
    ForwardContext context = forward(bench, nullptr, 3, 4);
    EXPECT_NEAR(*router_z_loss(context, {logits}, 0.1f).value.data<float>(), plain(), 1e-5 * plain());
    const auto apply = [](ForwardContext& c, const Var& x) { return router_z_loss(c, x, 0.1f); };
    const Tensor gradient = gradient_of(bench, logits, 3, 4, 2, apply);
    expect_gradient(
        logits, gradient, [&] { return 2 * plain(); }, 1e-3, 1e-4);
  }
}

}  // namespace
}  // namespace deepflow
