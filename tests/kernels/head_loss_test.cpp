#include "kernels/ops/head_loss.h"

#include "core/error.h"
#include "kernels/ops/head_loss_rows.h"
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
  float softcap = 0;
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
  const LossResult result = head_loss(forward, x, *p.head, p.labels, p.weights, p.softcap);
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
    std::vector<double> slopes(kVocabulary, 1);
    for (size_t v = 0; v < kVocabulary && p.softcap > 0; ++v) {
      const double cap = static_cast<double>(p.softcap), squashed = std::tanh(logits[v] / cap);
      logits[v] = cap * squashed;
      slopes[v] = 1 - squashed * squashed;
    }
    double sum = 0;
    for (const double l : logits) sum += std::exp(l);
    const double label = labels[r];
    result.nll.push_back(label < 0 ? 0 : std::log(sum) - logits[static_cast<size_t>(label)]);
    if (label < 0) continue;
    result.loss += weights[r] * result.nll.back();
    for (size_t v = 0; v < kVocabulary; ++v) {
      const double g = weights[r] * slopes[v] * (std::exp(logits[v]) / sum - (static_cast<size_t>(label) == v));
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

TEST(HeadLoss, SoftCapMatchesDoubleReferenceForEveryDtypeAndInstructionSet) {
  for (const IsaAndDtype& c : every_isa_and_dtype()) {
    SCOPED_TRACE(std::string(name_of(c.isa)) + " " + name_of(c.dtype));
    OpBench bench(c.dtype, {.cpu_isa = c.isa});
    Problem p(bench, 600);
    p.softcap = 3;  // logits have a deviation of 2.4
    const Result got = run(bench, p), expected = reference(bench, p, c.dtype);
    EXPECT_NEAR(got.loss, expected.loss, rounding_tolerance(c.dtype, 1e-6, 2e-3) * expected.loss);
    EXPECT_LT(relative_error(got.nll, expected.nll), rounding_tolerance(c.dtype, 1e-6, 4e-3));
    EXPECT_LT(relative_error(got.dx, expected.dx), rounding_tolerance(c.dtype, 2e-6, 1e-2));
    EXPECT_LT(relative_error(got.dw, expected.dw), rounding_tolerance(c.dtype, 2e-6, 1e-2));
  }
}

TEST(HeadLoss, SoftCapGradientsMatchDifferenceQuotients) {
  OpBench bench(DType::kF32, {.threads = 1});
  Problem p(bench, 9);
  p.softcap = 2;
  const Result got = run(bench, p);
  Tensor dx = bench.empty(p.x.shape(), DType::kF32);
  std::copy(got.dx.begin(), got.dx.end(), dx.data<float>());
  const auto loss = [&] {
    ForwardContext context = bench.forward(nullptr);
    const auto nll = values_of(head_loss(context, {p.x}, *p.head, p.labels, p.weights, p.softcap).nll);
    double sum = 0;
    for (int64_t r = 0; r < p.rows; ++r)
      sum += nll[static_cast<size_t>(r)] * static_cast<double>(p.weights.data<float>()[r]);
    return sum;
  };
  expect_gradient(p.x, dx, loss, 1e-2, 2e-3);
}

TEST(HeadLoss, HalfPrecisionMatchesDoubleReferenceOnEveryInstructionSet) {
  for (const CpuIsa isa : runnable_isas())
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      SCOPED_TRACE(std::string(name_of(isa)) + " " + name_of(dtype));
      OpBench bench(dtype, {.cpu_isa = isa});
      const Problem p(bench, 700);
      const Result got = run(bench, p), expected = reference(bench, p, dtype);
      EXPECT_NEAR(got.loss, expected.loss, 1e-3 * expected.loss);
      EXPECT_LT(relative_error(got.nll, expected.nll), rounding_tolerance(dtype, 0, 5e-3));
      EXPECT_LT(relative_error(got.dx, expected.dx), rounding_tolerance(dtype, 0, 1e-2));
      EXPECT_LT(relative_error(got.dw, expected.dw), rounding_tolerance(dtype, 0, 1e-2));
    }
}

TEST(HeadLoss, InF16TheSeedLiftsGradientsThatAreTooSmallForIt) {
  OpBench exact(DType::kF32), bench(DType::kF16);
  Problem p(exact, 60), q(bench, 60);
  for (Problem* problem : {&p, &q})
    for (int64_t r = 0; r < 60; ++r) problem->weights.data<float>()[r] *= 1e-7f;
  const Result expected = run(exact, p), lost = run(bench, q);
  for (const double g : lost.dx) EXPECT_EQ(g, 0);
  bench.store.begin_step();
  Result scaled = run(bench, q, 0x1p24f);
  for (double& g : scaled.dx) g *= 0x1p-24;
  for (double& g : scaled.dw) g *= 0x1p-24;
  EXPECT_LT(relative_error(scaled.dx, expected.dx), 5e-3);
  EXPECT_LT(relative_error(scaled.dw, expected.dw), 5e-3);
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
  for (const DType dtype : kComputeDtypes) {
    OpBench bench(dtype);
    Problem p(bench, 40);
    for (int64_t c = 0; c < kWidth; ++c) {  // rows 3 (label -1) and 5 (weight 0) hold what must not matter
      const float large = dtype == DType::kF16 ? 1e3f : 1e6f;
      p.x.data<float>()[3 * kWidth + c] = large;
      p.x.data<float>()[5 * kWidth + c] = -large;
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
  for (const DType dtype : kComputeDtypes) {
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
  for (const DType dtype : kComputeDtypes) {
    OpBench bench(dtype);
    const Problem p(bench, 100);
    const Result got = run(bench, p);
    ASSERT_EQ(got.dw.size(), 128u * kWidth);
    for (size_t i = kVocabulary * kWidth; i < got.dw.size(); ++i) EXPECT_EQ(got.dw[i], 0);
  }
}

TEST(HeadLoss, SeedScalesTheGradients) {
  for (const DType dtype : kComputeDtypes) {
    OpBench one(dtype), four(dtype);
    const Problem p(one, 60), q(four, 60);
    Result a = run(one, p);
    const Result b = run(four, q, 4);
    for (double& g : a.dx) g *= 4;
    for (double& g : a.dw) g *= 4;
    // Small probabilities are subnormal in f16.
    EXPECT_LT(relative_error(b.dx, a.dx), dtype == DType::kF16 ? 1e-3 : 1e-6);
    EXPECT_LT(relative_error(b.dw, a.dw), dtype == DType::kF16 ? 1e-3 : 1e-6);
  }
}

TEST(HeadLoss, SplitBackwardEqualsCombined) {
  for (const DType dtype : kComputeDtypes) {
    OpBench a(dtype), b(dtype);
    const Problem p(a, 300), q(b, 300);
    const Result combined = run(a, p), split = run(b, q, 1, true);
    EXPECT_EQ(combined.dx, split.dx);
    EXPECT_EQ(combined.dw, split.dw);
  }
}

TEST(HeadLoss, WithoutATapeTheValuesAreTheSame) {
  for (const DType dtype : kComputeDtypes) {
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
    for (const DType dtype : kComputeDtypes)
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

TEST(CrossEntropyGradient, APartOfTheColumnsHasItsPartOfTheGradient) {
  for (const IsaAndDtype& c : every_isa_and_dtype()) {
    OpBench bench(c.dtype, {.cpu_isa = c.isa});
    const Problem p(bench, 30);
    const HeadLabels labels{p.labels, p.weights};
    Tensor whole = bench.normal("logits", {p.rows, kVocabulary}, c.dtype);
    const Tensor log_sums = bench.empty({p.rows}, DType::kF32);
    std::fill_n(log_sums.data<float>(), p.rows, 5.0f);
    std::vector<Tensor> parts;
    const HeadColumns columns[] = {{0, 33}, {33, 67}, {100, 1}};
    for (const HeadColumns& part : columns) {
      Tensor padded = bench.empty({p.rows, part.count + 7}, c.dtype);
      fill(bench.runtime, padded, 3);
      Tensor logits = padded.column_range(0, part.count);
      copy(bench.runtime, whole.column_range(part.first, part.first + part.count), logits);
      cross_entropy_gradient(bench.runtime, padded, labels, 0, part, 2, log_sums.data<float>(), 0);
      parts.push_back(logits);
      EXPECT_EQ(values_of(padded.column_range(part.count, padded.cols())),
                std::vector<double>(static_cast<size_t>(7 * p.rows), 0.0));
    }
    cross_entropy_gradient(bench.runtime, whole, labels, 0, {0, kVocabulary}, 2, log_sums.data<float>(), 0);
    for (size_t i = 0; i < parts.size(); ++i)
      EXPECT_LT(relative_error(values_of(parts[i]),
                               values_of(whole.column_range(columns[i].first, columns[i].first + columns[i].count))),
                1e-6);
  }
}

TEST(HeadLogits, AreSoftened) {
  OpBench bench;
  const Problem p(bench, 5);
  ForwardContext context = bench.forward(nullptr);
  const auto plain = values_of(head_logits(context, p.x, *p.head));
  const auto softened = values_of(head_logits(context, p.x, *p.head, 3));
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(softened[i], 3 * std::tanh(plain[i] / 3), 1e-6);
}

TEST(HeadLogits, AreTheLogicalColumnsInF32) {
  for (const DType dtype : kComputeDtypes) {
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
