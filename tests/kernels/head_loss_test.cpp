#include "kernels/ops/head_loss.h"

#include "core/error.h"
#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

constexpr int64_t kWidth = 24, kVocabulary = 101;  // physical rows: 128

struct Problem {
  Problem(OpBench& bench, int64_t num_rows) : rows(num_rows) {
    head = &bench.store.add_normal("head", {kVocabulary, kWidth}, Role::kHead, 0.5f);
    x = bench.normal("x", {rows, kWidth}, DType::kF32);
    labels = bench.empty({rows}, DType::kI32);
    weights = bench.empty({rows}, DType::kF32);
    for (int64_t r = 0; r < rows; ++r) {
      labels.data<int32_t>()[r] = static_cast<int32_t>(r % 7 == 3 ? -1 : (r * 37) % kVocabulary);
      weights.data<float>()[r] = r % 11 == 5 ? 0.0f : 0.01f * static_cast<float>(1 + r % 3);
    }
  }
  int64_t rows;
  Pack* head;
  Tensor x, labels, weights;
};

struct Result {
  double loss = 0;
  std::vector<double> nll, dx, dw;
};

Result run(OpBench& bench, const Problem& p, float seed = 1, bool split_backward = false) {
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var x = tape.leaf(bench.cast(p.x, bench.compute));
  const LossResult result = head_loss(forward, x, *p.head, p.labels, p.weights);
  Tensor s = bench.empty({1}, DType::kF32);
  s.data<float>()[0] = seed;
  tape.root(result.loss, {s, nullptr}, backward);
  if (split_backward) {
    tape.backward_input(backward);
    tape.backward_weight(backward);
  } else {
    tape.backward(backward);
  }
  EXPECT_EQ(bench.store.contributions(*p.head), 1);
  EXPECT_EQ(bench.store.acquired(*p.head), 0);
  return {values_of(result.loss.value)[0], values_of(result.nll), values_of(tape.take(x).value),
          values_of(bench.store.gradient_value(*p.head))};
}

// In f64, from the values that the operands have in `dtype`.
Result reference(OpBench& bench, const Problem& p, DType dtype) {
  const std::vector<double> x = values_of(bench.cast(p.x, dtype)), labels = values_of(p.labels);
  const std::vector<double> w = values_of(bench.cast(bench.store.master(*p.head), dtype)),
                            weights = values_of(p.weights);
  Result result;
  result.dx.assign(static_cast<size_t>(p.rows * kWidth), 0);
  result.dw.assign(w.size(), 0);
  for (size_t r = 0; r < static_cast<size_t>(p.rows); ++r) {
    std::vector<double> logits(kVocabulary, 0);
    for (size_t v = 0; v < kVocabulary; ++v)
      for (size_t k = 0; k < kWidth; ++k) logits[v] += x[r * kWidth + k] * w[v * kWidth + k];
    double sum = 0;
    for (const double l : logits) sum += std::exp(l);
    const double label = labels[r];
    result.nll.push_back(label < 0 ? 0 : std::log(sum) - logits[static_cast<size_t>(label)]);
    if (label < 0) continue;
    result.loss += weights[r] * result.nll.back();
    for (size_t v = 0; v < kVocabulary; ++v) {
      const double g = weights[r] * (std::exp(logits[v]) / sum - (static_cast<size_t>(label) == v));
      for (size_t k = 0; k < kWidth; ++k) {
        result.dx[r * kWidth + k] += g * w[v * kWidth + k];
        result.dw[v * kWidth + k] += g * x[r * kWidth + k];
      }
    }
  }
  return result;
}

TEST(HeadLoss, F32MatchesDoubleReferenceOnEveryInstructionSet) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.cpu_isa = isa});
    const Problem p(bench, 700);  // more than a chunk
    const Result got = run(bench, p), expected = reference(bench, p, DType::kF32);
    EXPECT_NEAR(got.loss, expected.loss, 1e-6 * expected.loss);
    EXPECT_LT(relative_error(got.nll, expected.nll), 1e-6);
    EXPECT_LT(relative_error(got.dx, expected.dx), 1e-6);
    EXPECT_LT(relative_error(got.dw, expected.dw), 1e-6);
  }
}

TEST(HeadLoss, Bf16MatchesDoubleReferenceOnEveryInstructionSet) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kBF16, {.cpu_isa = isa});
    const Problem p(bench, 300);
    const Result got = run(bench, p), expected = reference(bench, p, DType::kBF16);
    EXPECT_NEAR(got.loss, expected.loss, 1e-3 * expected.loss);
    EXPECT_LT(relative_error(got.nll, expected.nll), 5e-3);
    EXPECT_LT(relative_error(got.dx, expected.dx), 1e-2);
    EXPECT_LT(relative_error(got.dw, expected.dw), 1e-2);
  }
}

TEST(HeadLoss, GradientsMatchFiniteDifferences) {
  OpBench bench;
  Problem p(bench, 20);
  const auto loss = [&] {
    ForwardContext context = bench.forward(nullptr);
    const LossResult result = head_loss(context, {p.x}, *p.head, p.labels, p.weights);
    double sum = 0;
    for (int64_t r = 0; r < p.rows; ++r)
      if (p.labels.data<int32_t>()[r] >= 0)
        sum += static_cast<double>(p.weights.data<float>()[r]) * static_cast<double>(result.nll.data<float>()[r]);
    return sum;
  };
  const Result got = run(bench, p);
  EXPECT_NEAR(loss(), got.loss, 1e-6 * got.loss);
  Tensor dx = bench.empty({p.rows, kWidth}, DType::kF32);
  for (size_t i = 0; i < got.dx.size(); ++i) dx.data<float>()[i] = static_cast<float>(got.dx[i]);
  expect_gradient(p.x, dx, loss, 2e-3, 2e-3);
  expect_gradient(bench.store.master(*p.head), bench.store.gradient_value(*p.head), loss, 2e-3, 2e-3, 200);
}

TEST(HeadLoss, MaskedRowsHaveNoLossAndNoGradient) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench bench(dtype);
    Problem p(bench, 40);
    for (int64_t c = 0; c < kWidth; ++c) {  // rows 3 (label -1) and 5 (weight 0) hold what must not matter
      p.x.data<float>()[3 * kWidth + c] = 1e6f;
      p.x.data<float>()[5 * kWidth + c] = -1e6f;
    }
    const Result got = run(bench, p);
    EXPECT_EQ(got.nll[3], 0);
    EXPECT_GT(got.nll[5], 0);
    EXPECT_TRUE(std::isfinite(got.loss));
    for (const int64_t r : {3, 5})
      for (int64_t c = 0; c < kWidth; ++c) EXPECT_EQ(got.dx[static_cast<size_t>(r * kWidth + c)], 0);
  }
}

TEST(HeadLoss, AllRowsMaskedGiveZeroLossAndZeroGradients) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench bench(dtype);
    Problem p(bench, 40);
    for (int64_t r = 0; r < p.rows; ++r) p.labels.data<int32_t>()[r] = -1;
    const Result got = run(bench, p);
    EXPECT_EQ(got.loss, 0);
    for (const double g : got.dx) EXPECT_EQ(g, 0);
    for (const double g : got.dw) EXPECT_EQ(g, 0);
  }
}

TEST(HeadLoss, PaddingRowsReceiveExactlyZeroGradient) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench bench(dtype);
    const Problem p(bench, 100);
    const Result got = run(bench, p);
    ASSERT_EQ(got.dw.size(), 128u * kWidth);
    for (size_t i = kVocabulary * kWidth; i < got.dw.size(); ++i) EXPECT_EQ(got.dw[i], 0);
  }
}

TEST(HeadLoss, SeedScalesTheGradients) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench one(dtype), four(dtype);
    const Problem p(one, 60), q(four, 60);
    Result a = run(one, p);
    const Result b = run(four, q, 4);
    for (double& g : a.dx) g *= 4;
    for (double& g : a.dw) g *= 4;
    EXPECT_LT(relative_error(b.dx, a.dx), 1e-6);
    EXPECT_LT(relative_error(b.dw, a.dw), 1e-6);
  }
}

TEST(HeadLoss, SplitBackwardEqualsCombined) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench a(dtype), b(dtype);
    const Problem p(a, 300), q(b, 300);
    const Result combined = run(a, p), split = run(b, q, 1, true);
    EXPECT_EQ(combined.dx, split.dx);
    EXPECT_EQ(combined.dw, split.dw);
  }
}

TEST(HeadLoss, WithoutATapeTheValuesAreTheSame) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench bench(dtype);
    const Problem p(bench, 600);
    ForwardContext context = bench.forward(nullptr);
    const LossResult quiet = head_loss(context, {bench.cast(p.x, dtype)}, *p.head, p.labels, p.weights);
    const Result recorded = run(bench, p);
    EXPECT_EQ(values_of(quiet.loss.value)[0], recorded.loss);
    EXPECT_EQ(values_of(quiet.nll), recorded.nll);
  }
}

TEST(HeadLoss, ALogitThatIsNotFiniteMakesTheLossNotFinite) {
  for (const CpuIsa isa : runnable_isas())
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const float bad : {std::nanf(""), INFINITY}) {
        OpBench bench(dtype, {.cpu_isa = isa});
        Problem p(bench, 10);
        p.x.data<float>()[kWidth + 2] = bad;
        ForwardContext context = bench.forward(nullptr);
        const LossResult r = head_loss(context, {bench.cast(p.x, dtype)}, *p.head, p.labels, p.weights);
        EXPECT_FALSE(std::isfinite(values_of(r.loss.value)[0]));
      }
}

TEST(HeadLoss, LabelsOutsideTheVocabularyAreRefused) {
  OpBench bench;
  Problem p(bench, 10);
  ForwardContext context = bench.forward(nullptr);
  for (const int label : {static_cast<int>(kVocabulary), -2}) {
    p.labels.data<int32_t>()[4] = label;
    EXPECT_THROW(head_loss(context, {p.x}, *p.head, p.labels, p.weights), DataError);
  }
}

TEST(HeadLoss, LargeLogitsDoNotOverflow) {
  OpBench bench;
  Problem p(bench, 30);
  scale(bench.runtime, p.x, 100);
  const Result got = run(bench, p), expected = [&] {
    Result r = reference(bench, p, DType::kF32);
    return r;
  }();
  EXPECT_NEAR(got.loss, expected.loss, 1e-5 * expected.loss);
}

TEST(HeadLogits, AreTheLogicalColumnsInF32) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench bench(dtype);
    const Problem p(bench, 530);
    ForwardContext context = bench.forward(nullptr);
    const Tensor x = bench.cast(p.x, dtype), logits = head_logits(context, x, *p.head);
    ASSERT_EQ(logits.cols(), kVocabulary);
    const Tensor w = bench.cast(bench.store.master(*p.head), dtype).row_range(0, kVocabulary);
    Tensor expected = bench.empty({p.rows, kVocabulary}, DType::kF32);
    matmul(bench.runtime, x, w, expected, {.transpose_b = true});
    EXPECT_LT(relative_error(values_of(logits), values_of(expected)), 1e-6);
  }
}

}  // namespace
}  // namespace deepflow::testing
