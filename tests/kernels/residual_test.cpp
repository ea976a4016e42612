#include "kernels/ops/residual.h"

#include "tests/kernels/test_store.h"

namespace deepflow {
namespace {

using testing::OpBench;
using testing::values_of;

TEST(AsStream, HasTheSameValuesInF32AndItsGradientInTheComputeType) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    OpBench bench(dtype);
    const Tensor x = bench.normal("x", {5, 7}, dtype), seed = bench.normal("seed", {5, 7}, DType::kF32);
    Tape tape;
    const Var leaf = tape.leaf(x);
    ForwardContext forward = bench.forward(&tape);
    const Var y = as_stream(forward, leaf);
    EXPECT_EQ(y.value.dtype(), DType::kF32);
    EXPECT_EQ(values_of(y.value), values_of(x));
    BackwardContext backward = bench.backward();
    tape.root(y, {seed, nullptr}, backward);
    tape.backward(backward);
    const Tensor gradient = tape.take(leaf).value;
    EXPECT_EQ(gradient.dtype(), dtype);
    EXPECT_EQ(values_of(gradient), values_of(bench.cast(seed, dtype)));
  }
}

}  // namespace
}  // namespace deepflow
