#include "kernels/ops/join_columns.h"

#include "tests/kernels/test_store.h"

namespace deepflow {
namespace {

using testing::OpBench;
using testing::values_of;

TEST(JoinColumns, PutsRowsSideBySideAndPartsTheGradient) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    OpBench bench(dtype);
    const Tensor a = bench.normal("a", {5, 3}, dtype), b = bench.normal("b", {5, 4}, dtype);
    const Tensor seed = bench.normal("seed", {5, 7}, dtype);
    Tape tape;
    const Var left = tape.leaf(a), right = tape.leaf(b);
    ForwardContext forward = bench.forward(&tape);
    const Var y = join_columns(forward, left, right);
    EXPECT_EQ(y.value.dtype(), dtype);
    EXPECT_EQ(values_of(y.value.column_range(0, 3)), values_of(a));
    EXPECT_EQ(values_of(y.value.column_range(3, 7)), values_of(b));
    BackwardContext backward = bench.backward();
    tape.root(y, {seed, nullptr}, backward);
    tape.backward(backward);
    EXPECT_EQ(values_of(tape.take(left).value), values_of(seed.column_range(0, 3)));
    EXPECT_EQ(values_of(tape.take(right).value), values_of(seed.column_range(3, 7)));
  }
}

}  // namespace
}  // namespace deepflow
