#include "kernels/ops/embedding.h"

#include "core/error.h"
#include "tests/kernels/test_store.h"

#include <cmath>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

struct EmbeddingBench : OpBench {
  EmbeddingBench(int64_t rows, int64_t cols, const RuntimeOptions& options = {})
      : OpBench(DType::kF32, options),
        table(store.add_normal("table", {50, cols}, Role::kEmbedding, 1)),
        places(store.add_normal("places", {16, cols}, Role::kMatrix, 1)),
        tokens(empty({rows}, DType::kI32)),
        positions(empty({rows}, DType::kI32)) {
    for (int64_t r = 0; r < rows; ++r) {
      tokens.data<int32_t>()[r] = static_cast<int32_t>(r * r % 50);  // some of them more than once
      positions.data<int32_t>()[r] = static_cast<int32_t>(r % 16);
    }
  }
  Var run(Tape* tape, bool with_positions = true) {
    ForwardContext context = forward(tape);
    context.rows.positions = positions;
    return embedding(context, tokens, table, with_positions ? &places : nullptr);
  }
  void train(const Tensor& dx, bool with_positions = true) {
    Tape tape;
    const Var x = run(&tape, with_positions);
    BackwardContext context = backward();
    tape.root(x, {dx, nullptr}, context);
    tape.backward(context);
  }
  std::vector<double> scattered(const Tensor& ids, int64_t physical_rows, const Tensor& dx) {
    const int64_t cols = dx.cols();
    std::vector<double> sum(static_cast<size_t>(physical_rows * cols));
    const auto d = values_of(dx);
    for (int64_t r = 0; r < dx.rows(); ++r)
      for (int64_t c = 0; c < cols; ++c)
        sum[static_cast<size_t>(ids.data<int32_t>()[r] * cols + c)] += d[static_cast<size_t>(r * cols + c)];
    return sum;
  }
  Pack &table, &places;
  Tensor tokens, positions;
};

TEST(Embedding, AddsRowsOfBothTables) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const int64_t cols : {8, 20, 64, 133}) {
      RuntimeOptions options;
      options.cpu_isa = isa;
      EmbeddingBench bench(23, cols, options);
      const float *table = bench.store.master(bench.table).data<float>(),
                  *places = bench.store.master(bench.places).data<float>();
      const Tensor both = bench.run(nullptr).value, one = bench.run(nullptr, false).value;
      for (int64_t r = 0; r < 23; ++r)
        for (int64_t c = 0; c < cols; ++c) {
          const float token = table[r * r % 50 * cols + c], place = places[r % 16 * cols + c];
          ASSERT_EQ(both.data<float>()[r * cols + c], token + place);
          ASSERT_EQ(one.data<float>()[r * cols + c], token);
        }
    }
}

TEST(Embedding, ScattersGradientsOverZeroedTables) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const int64_t cols : {8, 20, 133}) {
      RuntimeOptions options;
      options.cpu_isa = isa;
      EmbeddingBench bench(40, cols, options);
      const Tensor dx = bench.normal("dx", {40, cols}, DType::kF32);
      bench.train(dx);
      EXPECT_LT(
          relative_error(values_of(bench.store.gradient_value(bench.table)), bench.scattered(bench.tokens, 64, dx)),
          1e-6);
      EXPECT_LT(
          relative_error(values_of(bench.store.gradient_value(bench.places)), bench.scattered(bench.positions, 16, dx)),
          1e-6);
      EXPECT_EQ(bench.store.contributions(bench.table), 1);
      EXPECT_EQ(bench.store.contributions(bench.places), 1);
    }
}

TEST(Embedding, LaterContributionsAdd) {
  EmbeddingBench bench(12, 32);
  const Tensor dx = bench.normal("dx", {12, 32}, DType::kF32);
  bench.train(dx, false);
  auto twice = values_of(bench.store.gradient_value(bench.table));
  for (double& g : twice) g *= 2;
  bench.train(dx, false);
  EXPECT_LT(relative_error(values_of(bench.store.gradient_value(bench.table)), twice), 1e-6);
}

TEST(Embedding, GradientMatchesDifferenceQuotients) {
  RuntimeOptions options;
  options.threads = 1;
  EmbeddingBench bench(9, 12, options);
  const Tensor dx = bench.normal("dx", {9, 12}, DType::kF32);
  const auto weights = values_of(dx);
  bench.train(dx);
  const auto loss = [&] {
    const auto x = values_of(bench.run(nullptr).value);
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += x[i] * weights[i];
    return sum;
  };
  expect_gradient(bench.store.master(bench.table), bench.store.gradient_value(bench.table), loss, 1e-2, 1e-3);
  expect_gradient(bench.store.master(bench.places), bench.store.gradient_value(bench.places), loss, 1e-2, 1e-3);
}

TEST(Embedding, TwoRunsGiveTheSameBits) {
  EmbeddingBench bench(200, 96);
  const Tensor dx = bench.normal("dx", {200, 96}, DType::kF32);
  bench.train(dx);
  const auto first = values_of(bench.store.gradient_value(bench.table));
  bench.store.begin_step();
  bench.train(dx);
  EXPECT_EQ(values_of(bench.store.gradient_value(bench.table)), first);
}

TEST(Embedding, ZeroRowsContributeZeroGradients) {
  EmbeddingBench bench(0, 16);
  bench.train(bench.empty({0, 16}, DType::kF32));
  EXPECT_EQ(values_of(bench.store.gradient_value(bench.table)), std::vector<double>(64 * 16, 0.0));
  EXPECT_EQ(values_of(bench.store.gradient_value(bench.places)), std::vector<double>(16 * 16, 0.0));
}

TEST(Embedding, IdsOutsideTheTablesAreRefused) {
  EmbeddingBench bench(3, 16);
  bench.tokens.data<int32_t>()[2] = 50;  // inside the padding
  EXPECT_THROW(bench.run(nullptr), DataError);
  bench.tokens.data<int32_t>()[2] = -1;
  EXPECT_THROW(bench.run(nullptr), DataError);
  bench.tokens.data<int32_t>()[2] = 49;
  bench.positions.data<int32_t>()[0] = 16;
  EXPECT_THROW(bench.run(nullptr), DataError);
}

}  // namespace
}  // namespace deepflow
