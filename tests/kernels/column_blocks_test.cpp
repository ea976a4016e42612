#include "kernels/ops/column_blocks.h"

#include "tests/kernels/test_store.h"

namespace deepflow {
namespace {

using testing::OpBench;
using testing::values_of;

constexpr int64_t kWidths[] = {3, 1, 4};

TEST(ColumnBlocks, AreTheColumnsAndTheirGradientsStandSideBySide) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    OpBench bench(dtype);
    const Tensor x = bench.normal("x", {5, 8}, dtype), seed = bench.normal("seed", {5, 8}, dtype);
    Tape tape;
    const Var leaf = tape.leaf(x);
    ForwardContext forward = bench.forward(&tape);
    const std::vector<Var> blocks = split_columns(forward, leaf, kWidths);
    ASSERT_EQ(blocks.size(), 3u);
    BackwardContext backward = bench.backward();
    int64_t begin = 0;
    for (size_t i = 0; i < blocks.size(); begin += kWidths[i], ++i) {
      EXPECT_TRUE(blocks[i].value.is_contiguous());
      EXPECT_EQ(values_of(blocks[i].value), values_of(x.column_range(begin, begin + kWidths[i])));
      tape.root(blocks[i], {seed.column_range(begin, begin + kWidths[i]), nullptr}, backward);
    }
    tape.backward(backward);
    EXPECT_EQ(values_of(tape.take(leaf).value), values_of(seed));
  }
}

TEST(ColumnBlocks, OneThatNobodyReadHasNoGradient) {
  OpBench bench;
  Tape tape;
  const Var leaf = tape.leaf(bench.normal("x", {2, 8}, DType::kF32));
  ForwardContext forward = bench.forward(&tape);
  const std::vector<Var> blocks = split_columns(forward, leaf, kWidths);
  BackwardContext backward = bench.backward();
  tape.root(blocks[1], {bench.normal("seed", {2, 1}, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  const auto gradient = values_of(tape.take(leaf).value);
  for (size_t i = 0; i < gradient.size(); ++i) EXPECT_EQ(gradient[i] != 0, i % 8 == 3) << i;
}

}  // namespace
}  // namespace deepflow
