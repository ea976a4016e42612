#include "kernels/ops/grouped_linear.h"

#include "kernels/ops/gemm_cache.h"
#include "kernels/ops/grouped_panels.h"
#include "kernels/ops/linear.h"
#include "tests/kernels/test_store.h"

#include <cstring>

namespace deepflow::testing {
namespace {

struct Case {
  std::vector<int64_t> sizes;  // rows of each group
  int64_t in, part;
  int members;
  int64_t groups() const { return static_cast<int64_t>(sizes.size()); }
  int64_t out() const { return part * members; }
  RowGroups rows() const {
    RowGroups r{{0}};
    for (const int64_t n : sizes) r.begin.push_back(r.begin.back() + n);
    return r;
  }
  int64_t num_rows() const { return rows().begin.back(); }
};

// Uneven groups, empty ones, one row, all rows in one; extents of whole panels and not, odd ones, long sums, many rows.
const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {{5, 0, 1, 37, 16}, 64, 64, 2},
      {{0, 0, 70}, 128, 64, 1},
      {{1}, 64, 128, 1},
      {{0, 0}, 64, 64, 2},
      {{7, 33, 2}, 50, 35, 2},
      {{40, 9}, 33, 20, 1},
      {{130, 1, 0, 600, 77}, 192, 64, 2},
      {{1100, 3}, 64, 192, 1},
      {{64, 65, 129}, 640, 128, 1},
  };
  return kCases;
}

struct Result {
  std::vector<double> y, dx, dw;
  friend bool operator==(const Result&, const Result&) = default;
};

Pack& weight_of(OpBench& bench, const Case& c) {
  return bench.store.add_normal("w", {c.groups(), c.part, c.in}, Role::kExpert, 0.3f, c.members);
}

// sum(seed * y) is the loss.
Result run(OpBench& bench, const Case& c, bool split_backward = false, int passes = 1) {
  Pack& weight = weight_of(bench, c);
  Result result;
  for (int pass = 0; pass < passes; ++pass) {
    Tape tape;
    ForwardContext forward = bench.forward(&tape);
    BackwardContext backward = bench.backward();
    const Var x = tape.leaf(bench.normal("x", {c.num_rows(), c.in}, bench.compute));
    const Var y = grouped_linear(forward, x, weight, c.rows());
    tape.root(y, {bench.normal("seed", {c.num_rows(), c.out()}, bench.compute), nullptr}, backward);
    if (split_backward) {
      tape.backward_input(backward);
      EXPECT_EQ(bench.store.contributions(weight), pass);
      tape.backward_weight(backward);
    } else {
      tape.backward(backward);
    }
    result.y = values_of(y.value);
    result.dx = values_of(tape.take(x).value);
    EXPECT_EQ(bench.store.contributions(weight), pass + 1);
    EXPECT_EQ(bench.store.acquired(weight), 0);
  }
  result.dw = values_of(bench.store.gradient_value(weight));
  return result;
}

// By definition, in double, from operands as they are in the compute dtype.
Result reference(OpBench& bench, const Case& c) {
  Pack& weight = weight_of(bench, c);
  const auto rounded = [&](const Tensor& t) { return values_of(bench.cast(t, bench.compute)); };
  const std::vector<double> w = rounded(bench.store.master(weight));
  const std::vector<double> x = values_of(bench.normal("x", {c.num_rows(), c.in}, bench.compute));
  const std::vector<double> dy = values_of(bench.normal("seed", {c.num_rows(), c.out()}, bench.compute));
  Result r;
  r.y.resize(static_cast<size_t>(c.num_rows() * c.out()));
  r.dx.resize(x.size());
  r.dw.resize(w.size());
  const RowGroups rows = c.rows();
  for (int64_t g = 0; g < c.groups(); ++g)
    for (int64_t m = rows.first(g); m < rows.end(g); ++m)
      for (int64_t o = 0; o < c.out(); ++o) {
        const size_t at =
            static_cast<size_t>((o / c.part * c.groups() + g) * c.part + o % c.part) * static_cast<size_t>(c.in);
        const size_t yi = static_cast<size_t>(m * c.out() + o), xi = static_cast<size_t>(m * c.in);
        for (size_t i = 0; i < static_cast<size_t>(c.in); ++i) {
          r.y[yi] += x[xi + i] * w[at + i];
          r.dx[xi + i] += dy[yi] * w[at + i];
          r.dw[at + i] += dy[yi] * x[xi + i];
        }
      }
  return r;
}

TEST(GroupedLinear, IsTheProductOfEveryGroupOnEveryInstructionSet) {
  // The first runtime binds oneDNN for the process: with the best instruction set it asks for panels, for all of them.
  OpBench first;
  GemmCache::of(first.runtime);
  for (const auto& [isa, dtype] : every_isa_and_dtype())
    for (size_t i = 0; i < cases().size(); ++i) {
      SCOPED_TRACE(std::string(name_of(isa)) + " " + name_of(dtype) + " case " + std::to_string(i));
      OpBench bench(dtype, {.cpu_isa = isa}), exact(dtype);
      const Result got = run(bench, cases()[i]), expected = reference(exact, cases()[i]);
      const double tolerance = rounding_tolerance(dtype, 1e-6);
      EXPECT_LT(relative_error(got.y, expected.y), tolerance);
      EXPECT_LT(relative_error(got.dx, expected.dx), tolerance);
      EXPECT_LT(relative_error(got.dw, expected.dw), 2e-6);
    }
}

// Products of all groups in one job wherever oneDNN asks for panels, and nowhere else.
TEST(GroupedLinear, MultipliesPanelsItself) {
  for (const DType dtype : kComputeDtypes) {
    OpBench bench(dtype);
    const Case c = cases()[0];
    Pack& weight = weight_of(bench, c);
    GemmCache& cache = GemmCache::of(bench.runtime);
    const bool has_products = dtype == DType::kF32 || (dtype == DType::kBF16 && cache.has_bf16());
    const bool expected = has_products && cache.panel_bytes(dtype, c.in, c.out()) != 0;
    const Tensor packed = bench.store.acquire(weight, Form::kForward, *bench.stream);
    const Tensor x = bench.normal("x", {c.num_rows(), c.in}, dtype);
    Tensor y = bench.empty({c.num_rows(), c.out()}, dtype);
    EXPECT_EQ(grouped_panel_product(bench.runtime, x, c.rows(), packed, y), expected) << name_of(dtype);
    GradientTarget dw = bench.store.gradient(weight);
    EXPECT_EQ(grouped_panel_weight_grad(bench.runtime, y, x, c.rows(), weight, dw), expected) << name_of(dtype);
  }
}

TEST(GroupedLinear, GradientsMatchFiniteDifferences) {
  OpBench bench;
  const Case c = cases()[0];
  Pack& weight = weight_of(bench, c);
  Tensor x = bench.normal("x", {c.num_rows(), c.in}, DType::kF32);
  const Tensor seed = bench.normal("seed", {c.num_rows(), c.out()}, DType::kF32);
  const auto loss = [&] {
    ForwardContext context = bench.forward(nullptr);
    const std::vector<double> y = values_of(grouped_linear(context, {x}, weight, c.rows()).value), s = values_of(seed);
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += y[i] * s[i];
    return sum;
  };
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var leaf = tape.leaf(x);
  const Var y = grouped_linear(forward, leaf, weight, c.rows());
  tape.root(y, {bench.cast(seed, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  expect_gradient(x, tape.take(leaf).value, loss, 0.05, 1e-4);
  expect_gradient(bench.store.master(weight), bench.store.gradient_value(weight), loss, 0.05, 1e-4);
}

TEST(GroupedLinear, OneGroupWithAllRowsIsLinear) {
  for (const DType dtype : kComputeDtypes) {
    const Case c{{150}, 128, 192, 1};
    OpBench a(dtype), b(dtype);
    const Result got = run(a, c);
    Pack& weight = b.store.add_normal("w", {192, 128}, Role::kMatrix, 0.3f);
    ForwardContext context = b.forward(nullptr);
    const Tensor y = linear(context, {b.normal("x", {150, 128}, dtype)}, weight, nullptr).value;
    EXPECT_LT(relative_error(got.y, values_of(y)), rounding_tolerance(dtype, 1e-6));
  }
}

TEST(GroupedLinear, SplitBackwardEqualsCombined) {
  for (const DType dtype : kComputeDtypes)
    for (const size_t i : {0u, 4u, 6u}) {
      OpBench a(dtype), b(dtype);
      EXPECT_EQ(run(a, cases()[i], false), run(b, cases()[i], true));
    }
}

// oneDNN, which multiplies where there are no panels, may sum in another order with other threads.
TEST(GroupedLinear, GivesTheSameBitsForAnyNumberOfThreadsWherePanelsAre) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench probe(dtype);
    GemmCache& cache = GemmCache::of(probe.runtime);
    if ((dtype == DType::kBF16 && !cache.has_bf16()) || cache.panel_bytes(dtype, 64, 128) == 0) continue;
    for (const size_t i : {0u, 6u, 8u}) {
      OpBench one(dtype, {.threads = 1}), three(dtype, {.threads = 3});
      const Result a = run(one, cases()[i]), b = run(three, cases()[i]);
      SCOPED_TRACE(std::string(name_of(dtype)) + " case " + std::to_string(i));
      EXPECT_EQ(relative_error(a.y, b.y), 0);
      EXPECT_EQ(relative_error(a.dx, b.dx), 0);
      EXPECT_EQ(relative_error(a.dw, b.dw), 0);
    }
  }
}

TEST(GroupedLinear, SecondPassOfAStepAccumulates) {
  for (const DType dtype : kComputeDtypes)
    for (const size_t i : {0u, 1u, 3u, 4u, 7u}) {
      OpBench once(dtype), twice(dtype);
      Result one = run(once, cases()[i]);
      const Result two = run(twice, cases()[i], false, 2);
      for (double& v : one.dw) v *= 2;
      EXPECT_LT(relative_error(two.dw, one.dw), 1e-6);
    }
}

TEST(GroupedLinear, AConstantInputNeedsNoInputGradient) {
  OpBench bench;
  const Case c = cases()[0];
  Pack& weight = weight_of(bench, c);
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var y = grouped_linear(forward, {bench.normal("x", {c.num_rows(), c.in}, DType::kF32)}, weight, c.rows());
  tape.root(y, {bench.normal("seed", {c.num_rows(), c.out()}, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(bench.store.contributions(weight), 1);
  EXPECT_TRUE(all_finite(bench.runtime, bench.store.gradient_value(weight)));
}

}  // namespace
}  // namespace deepflow::testing
