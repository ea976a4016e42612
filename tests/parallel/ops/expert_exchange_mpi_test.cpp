#include "parallel/ops/expert_exchange.h"
#include "tests/parallel/ops/cut_pack.h"

#include <algorithm>

namespace deepflow::testing {
namespace {

constexpr int64_t kExperts = 8, kWidth = 6, kChoices = 3;

// How the rows of every rank choose, each way a corner of its own.
enum class Choose { kMixed, kOne, kFirstRanksOnly, kNothing };

struct ExpertsBench : OpBench {
  ExpertsBench(Choose how, int parts) : OpBench(DType::kF32, {.threads = 1}), choose(how) {
    ep = {&test_world().all(), parts};
  }
  // Rank r has 5 r rows: the first has none.
  int64_t num_rows(int rank) const { return choose == Choose::kNothing ? 4 : 5 * rank; }
  Tensor experts(int rank) {
    Tensor e = empty({num_rows(rank), kChoices}, DType::kI32);
    for (int64_t i = 0; i < e.num_elements(); ++i) {
      const int64_t row = i / kChoices, choice = i % kChoices;
      int64_t chosen = (row * 5 + rank + choice * 3) % kExperts;
      if (choose == Choose::kOne) chosen = choice == 0 ? kExperts - 1 : -1;
      if (choose == Choose::kFirstRanksOnly) chosen = choice;
      if (choose == Choose::kNothing) chosen = -1;
      if (choose == Choose::kMixed && (row + choice) % 4 == 0) chosen = -1;
      e.data<int32_t>()[i] = static_cast<int32_t>(chosen);
    }
    return e;
  }
  Tensor x(int rank) { return normal(fmt::format("x of {}", rank), {num_rows(rank), kWidth}, compute); }
  Tensor weights(int rank) { return normal(fmt::format("weights of {}", rank), {num_rows(rank), kChoices}, compute); }
  Tensor dy(int rank) { return normal(fmt::format("dy of {}", rank), {num_rows(rank), kWidth}, compute); }

  // The part of an expert's work that a place of the group does: expert e multiplies its rows by e + 1, in parts that
  // add up to that.
  float factor(int64_t local_expert) const {
    const int64_t local_experts = kExperts / ep.num_owners(), owner = ep.comm->rank() / ep.etp;
    const int64_t part = ep.comm->rank() % ep.etp;
    const auto whole = static_cast<float>(owner * local_experts + local_expert + 1);
    return whole * static_cast<float>(part + 1) * 2 / static_cast<float>(ep.etp * (ep.etp + 1));
  }
  std::vector<float> factors(const Dispatch& arrived) const {
    std::vector<float> of_row(static_cast<size_t>(arrived.num_slots()));
    for (size_t e = 0; e + 1 < arrived.begin.size(); ++e)
      std::fill(of_row.begin() + arrived.begin[e], of_row.begin() + arrived.begin[e + 1],
                factor(static_cast<int64_t>(e)));
    return of_row;
  }

  Choose choose;
  ExpertParallel ep;
};

// y[m] = factor[m] x[m]
struct ScaleNode final : Node {
  std::vector<float> factors;
  const char* name() const override { return "scale"; }
  static Tensor scaled(Runtime& runtime, const std::vector<float>& factors, const Tensor& x) {
    Tensor y = Tensor::empty(runtime.memory(), {x.rows(), x.cols()}, DType::kF32);
    for (int64_t i = 0; i < y.num_elements(); ++i)
      y.data<float>()[i] = x.data<float>()[i] * factors[static_cast<size_t>(i / x.cols())];
    return y;
  }
  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return {{scaled(context.runtime, factors, out[0].value), nullptr}};
  }
};

// What one rank would compute: y, dx, dweights.
struct Expected {
  Tensor y, dx, dweights;
};
Expected alone(ExpertsBench& b, int rank) {
  const Tensor x = b.x(rank), w = b.weights(rank), dy = b.dy(rank), e = b.experts(rank);
  Expected r{b.empty({x.rows(), kWidth}, DType::kF32), b.empty({x.rows(), kWidth}, DType::kF32),
             b.empty({x.rows(), kChoices}, DType::kF32)};
  fill(b.runtime, r.y, 0);
  fill(b.runtime, r.dx, 0);
  fill(b.runtime, r.dweights, 0);
  for (int64_t m = 0; m < x.rows(); ++m)
    for (int64_t j = 0; j < kChoices; ++j) {
      const int64_t at = m * kChoices + j;
      if (e.data<int32_t>()[at] < 0) continue;
      const auto factor = static_cast<float>(e.data<int32_t>()[at] + 1);
      for (int64_t c = m * kWidth; c < (m + 1) * kWidth; ++c) {
        r.y.data<float>()[c] += w.data<float>()[at] * factor * x.data<float>()[c];
        r.dx.data<float>()[c] += w.data<float>()[at] * factor * dy.data<float>()[c];
        r.dweights.data<float>()[at] += factor * dy.data<float>()[c] * x.data<float>()[c];
      }
    }
  return r;
}

std::vector<int> parts_here() {
  const int n = test_world().size();
  std::vector<int> parts = {1};
  if (n % 2 == 0) parts.push_back(2);
  if (n > 2) parts.push_back(n);
  return parts;
}

TEST(ExpertExchange, GivesEveryRowWhatItsExpertsMakeOfIt) {
  for (const int parts : parts_here())
    for (const Choose how : {Choose::kMixed, Choose::kOne, Choose::kFirstRanksOnly, Choose::kNothing}) {
      ExpertsBench b(how, parts);
      SCOPED_TRACE(fmt::format("etp {} choices {}", parts, static_cast<int>(how)));
      const int rank = test_world().rank();
      Tape tape;
      ForwardContext forward = b.forward(&tape);
      BackwardContext backward = b.backward();
      const Var x = tape.leaf(b.x(rank)), weights = tape.leaf(b.weights(rank));
      const ExpertExchange exchange = plan_expert_exchange(forward, b.experts(rank), kExperts, b.ep);
      const Var rows = rows_of_experts(forward, x, exchange, b.ep);
      ASSERT_EQ(rows.value.rows(), exchange.arrived.num_slots());
      auto node = std::make_unique<ScaleNode>();
      node->factors = b.factors(exchange.arrived);
      const Tensor scaled = ScaleNode::scaled(b.runtime, node->factors, rows.value);
      const Var outputs = tape.record(std::move(node), std::span(&rows, 1), scaled);
      const ReturningRows returning(forward, outputs, exchange, b.ep);
      const Var y = returning.arrive(forward, weights);

      const Expected expected = alone(b, rank);
      EXPECT_LE(error_of(y.value, expected.y), 1e-5);
      tape.root(y, {b.dy(rank), nullptr}, backward);
      tape.backward(backward);
      EXPECT_LE(error_of(tape.take(x).value, expected.dx), 1e-5);
      EXPECT_LE(error_of(tape.take(weights).value, expected.dweights), 1e-5);
    }
}

// Rows of an expert come in the order of ranks, so that sums over them are the same run after run.
TEST(ExpertExchange, SortsRowsByExpertAndThenByRank) {
  ExpertsBench b(Choose::kMixed, 1);
  ForwardContext forward = b.forward(nullptr);
  const int rank = test_world().rank();
  Tensor marks = b.empty({b.num_rows(rank), 1}, DType::kF32);
  for (int64_t i = 0; i < marks.num_elements(); ++i) marks.data<float>()[i] = static_cast<float>(100 * rank + i);
  const ExpertExchange exchange = plan_expert_exchange(forward, b.experts(rank), kExperts, b.ep);
  const std::vector<double> rows = values_of(rows_of_experts(forward, {marks}, exchange, b.ep).value);
  const int64_t local = kExperts / test_world().size();
  std::vector<double> expected;
  for (int64_t e = rank * local; e < (rank + 1) * local; ++e)
    for (int from = 0; from < test_world().size(); ++from) {
      const Tensor chosen = b.experts(from);
      for (int64_t i = 0; i < chosen.num_elements(); ++i)
        if (chosen.data<int32_t>()[i] == e) expected.push_back(static_cast<double>(100 * from + i / kChoices));
    }
  EXPECT_EQ(rows, expected);
}

}  // namespace
}  // namespace deepflow::testing
