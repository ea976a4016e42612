#include "kernels/ops/linear.h"
#include "parallel/ops/tensor_linear.h"
#include "tests/parallel/ops/cut_pack.h"

namespace deepflow::testing {
namespace {

constexpr int64_t kIn = 50, kOut = 70;  // no multiples of the ranks

struct Case {
  bool column;
  TensorLayout layout;
  DType dtype;
  int64_t rows;
  ProductPrecision products = ProductPrecision::kCompute;
};

// Values and gradients; of one rank, or of the plain op on whole matrices.
struct Result {
  Tensor y, dx, dw, db;
};

struct Whole {
  explicit Whole(const Case& c) : bench(c.dtype, {.threads = 1}) {
    bench.products = c.products;
    weight = &bench.store.add_normal("w", {kOut, kIn}, Role::kMatrix, 0.3f);
    bias = &bench.store.add_normal("b", {kOut}, Role::kBias, 0.3f);
    x = bench.normal("x", {c.rows, kIn}, c.dtype);
    dy = bench.normal("dy", {c.rows, kOut}, c.dtype);
  }
  Result run() {
    Tape tape;
    ForwardContext forward = bench.forward(&tape);
    BackwardContext backward = bench.backward();
    const Var leaf = tape.leaf(x), y = linear(forward, leaf, *weight, bias);
    tape.root(y, {bench.cast(dy, bench.compute), nullptr}, backward);
    tape.backward(backward);
    return {y.value, tape.take(leaf).value, bench.store.gradient_value(*weight), bench.store.gradient_value(*bias)};
  }
  OpBench bench;
  Pack *weight, *bias;
  Tensor x, dy;
};

struct Cut {
  explicit Cut(const Case& c)
      : config(c), whole(c), bench(c.dtype, {.threads = 1}), rank(test_world().rank()), ranks(test_world().size()) {
    bench.products = c.products;
    const Tensor& w = whole.bench.store.master(*whole.weight);
    const Tensor b = whole.bench.store.master(*whole.bias).view({1, kOut});
    weight = &add_part(bench, "w", w, c.column ? 0 : 1, Role::kMatrix, rank, ranks);
    bias = c.column ? &add_part(bench, "b", b, 1, Role::kBias, rank, ranks)
                    : &add_part(bench, "b", b, 1, Role::kBias, 0, 1);
  }
  Tensor own_rows(const Tensor& t) const { return config.layout.sequence ? rows_of_rank(t, rank, ranks) : t; }
  Tensor copy_of(const Tensor& t) { return bench.cast(t, t.dtype()); }
  // With a row stride, as a block of columns has.
  Tensor block_of(const Tensor& t) {
    Tensor block = bench.empty({t.rows(), t.cols() + 3}, t.dtype()).column_range(2, 2 + t.cols());
    copy(bench.runtime, t, block);
    return block;
  }

  Result run(bool wants_input_grad = true, bool split_backward = false) {
    Tape tape;
    ForwardContext forward = bench.forward(&tape);
    forward.rows.batch = 1;
    forward.rows.sequence = config.rows;
    BackwardContext backward = bench.backward();
    const TensorParallel tp = tensor_parallel(config.layout);
    const Tensor input = block_of(config.column ? own_rows(whole.x) : columns_of_rank(whole.x, rank, ranks));
    const Var x = wants_input_grad ? tape.leaf(input) : Var{input};
    auto* op = config.column ? column_parallel_linear : row_parallel_linear;
    const Var y = op(forward, x, *weight, bias, tp);
    const Tensor dy = config.column ? columns_of_rank(whole.dy, rank, ranks) : own_rows(whole.dy);
    tape.root(y, {block_of(dy), nullptr}, backward);
    if (split_backward) {
      tape.backward_input(backward);
      tape.backward_weight(backward);
    } else {
      tape.backward(backward);
    }
    EXPECT_EQ(bench.store.contributions(*weight), 1);
    EXPECT_EQ(bench.store.contributions(*bias), 1);
    EXPECT_EQ(bench.store.acquired(*weight), 0);
    EXPECT_EQ(bench.store.acquired(*bias), 0);
    Result result{y.value, Tensor(), copy_of(bench.store.gradient_value(*weight)),
                  copy_of(bench.store.gradient_value(*bias))};
    if (wants_input_grad) {
      const Grad dx = tape.take(x);
      const bool in_flight = config.column && is_split(&tp) && (!tp.sequence || tp.overlap);
      EXPECT_EQ(dx.pending != nullptr, in_flight) << "the weight gradient ran in front of a sum";
      if (dx.pending) dx.pending->wait(*bench.stream);
      result.dx = dx.value;
    }
    bench.store.begin_step();
    return result;
  }

  // This rank's part of what the plain op gives.
  Result expected() {
    const Result r = whole.run();
    if (config.column)
      return {columns_of_rank(r.y, rank, ranks), own_rows(r.dx), rows_of_rank(r.dw, rank, ranks),
              columns_of_rank(r.db.view({1, kOut}), rank, ranks)};
    return {own_rows(r.y), columns_of_rank(r.dx, rank, ranks), columns_of_rank(r.dw, rank, ranks), r.db};
  }

  Case config;
  Whole whole;
  OpBench bench;
  int rank, ranks;
  Pack *weight, *bias;
};

void expect_parts_of_the_whole(const Case& c, double tolerance) {
  SCOPED_TRACE(fmt::format("{}, {}", c.column ? "column" : "row", describe(c.layout, c.dtype, c.rows)));
  Cut cut(c);
  const Result got = cut.run(), expected = cut.expected();
  EXPECT_EQ(got.y.dtype(), c.dtype);
  EXPECT_LT(error_of(got.y, expected.y), tolerance);
  EXPECT_LT(error_of(got.dx, expected.dx), tolerance);
  EXPECT_LT(error_of(got.dw, expected.dw), tolerance);
  std::vector<double> db = values_of(got.db);
  if (!c.column && c.layout.sequence) db = summed(db);  // partial
  EXPECT_LT(relative_error(db, values_of(expected.db)), tolerance);
}

std::vector<Case> all_cases(DType dtype) {
  std::vector<Case> cases;
  for (const bool column : {true, false})
    for (const TensorLayout& layout : tensor_layouts())
      for (const int64_t rows : {1, 3, 64, 257}) cases.push_back({column, layout, dtype, rows});
  return cases;
}

TEST(TensorLinear, F32GivesTheParts) {
  for (const Case& c : all_cases(DType::kF32)) expect_parts_of_the_whole(c, 1e-5);
}

TEST(TensorLinear, Bf16GivesThePartsUpToRounding) {
  for (const Case& c : all_cases(DType::kBF16)) expect_parts_of_the_whole(c, 0.01);
}

TEST(TensorLinear, Int8ProductsGivesThePartsUpToQuantisation) {
  for (const bool column : {true, false})
    for (const TensorLayout& layout : tensor_layouts())
      for (const int64_t rows : {1, 3, 64})
        expect_parts_of_the_whole({column, layout, DType::kBF16, rows, ProductPrecision::kInt8}, 0.02);
}

TEST(TensorLinear, TheSameBitsTwiceAndWithASplitBackward) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const Case& c : all_cases(dtype)) {
      Cut cut(c);
      const Result first = cut.run();
      for (const bool split : {false, true}) {
        const Result again = cut.run(true, split);
        EXPECT_EQ(values_of(again.y), values_of(first.y));
        EXPECT_EQ(values_of(again.dx), values_of(first.dx));
        EXPECT_EQ(values_of(again.dw), values_of(first.dw));
        EXPECT_EQ(values_of(again.db), values_of(first.db));
      }
    }
}

// parallel/ops/tensor_linear.h, for rows that are dealt evenly.
TEST(TensorLinear, SendsNoMoreThanItSays) {
  if (test_size(1 << 20) != 1 << 20) GTEST_SKIP() << "compared calls send more";
  constexpr int64_t kRows = 64;
  for (const bool column : {true, false})
    for (const TensorLayout& layout : tensor_layouts()) {
      Cut cut({column, layout, DType::kBF16, kRows});
      Communicator& comm = test_world().all();
      const int64_t n = comm.size(), before = comm.bytes().sent;
      cut.run();
      const int64_t matrix = kRows * (column ? kIn : kOut) * 2, transfer = matrix * (n - 1) / n;
      const int64_t whole = matrix * (n - 1);  // small all-reduces
      EXPECT_EQ(comm.bytes().sent - before, !layout.sequence ? whole : column ? 3 * transfer : 2 * transfer);
    }
}

TEST(TensorLinear, AConstantInputNeedsNoInputGradient) {
  for (const Case& c : all_cases(DType::kF32)) {
    Cut cut(c);
    EXPECT_LT(error_of(cut.run(false).dw, cut.expected().dw), 1e-5);
  }
}

TEST(TensorLinear, NoRowsStillContributeZeroGradients) {
  for (const bool column : {true, false})
    for (const TensorLayout& layout : tensor_layouts()) {
      Cut cut({column, layout, DType::kBF16, 0});
      const Result got = cut.run();
      EXPECT_EQ(got.y.rows(), 0);
      EXPECT_EQ(sum_squares(cut.bench.runtime, got.dw), 0);
      EXPECT_EQ(sum_squares(cut.bench.runtime, got.db), 0);
    }
}

TEST(TensorLinear, WithoutATapeTheValuesAreTheSame) {
  for (const Case& c : all_cases(DType::kBF16)) {
    Cut cut(c);
    ForwardContext forward = cut.bench.forward(nullptr);
    forward.rows.batch = 1;
    forward.rows.sequence = c.rows;
    const Tensor input =
        cut.copy_of(c.column ? cut.own_rows(cut.whole.x) : columns_of_rank(cut.whole.x, cut.rank, cut.ranks));
    auto* op = c.column ? column_parallel_linear : row_parallel_linear;
    const Var y = op(forward, {input}, *cut.weight, cut.bias, tensor_parallel(c.layout));
    EXPECT_EQ(values_of(y.value), values_of(cut.run().y));
  }
}

}  // namespace
}  // namespace deepflow::testing
