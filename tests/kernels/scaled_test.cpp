#include "kernels/ops/scaled.h"

#include "tests/kernels/test_store.h"

namespace deepflow {
namespace {

using testing::OpBench;
using testing::values_of;

TEST(Scaled, MultipliesInPlaceAndTheGradientLikewise) {
  OpBench bench;
  const Tensor x = bench.normal("x", {5, 7}, DType::kF32), seed = bench.normal("seed", {5, 7}, DType::kF32);
  auto expected = values_of(x), gradient = values_of(seed);
  const auto seed_before = gradient;
  for (double& v : expected) v *= 4;
  for (double& v : gradient) v *= 4;
  Tape tape;
  const Var leaf = tape.leaf(x);
  ForwardContext forward = bench.forward(&tape);
  const Var y = scaled(forward, leaf, 4);
  EXPECT_EQ(y.value.raw(), x.raw());
  EXPECT_EQ(values_of(y.value), expected);
  BackwardContext backward = bench.backward();
  tape.root(y, {seed, nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(values_of(tape.take(leaf).value), gradient);
  EXPECT_EQ(values_of(seed), seed_before);  // somebody else holds it
}

TEST(Scaled, OverwritesAGradientThatNobodyElseHolds) {
  OpBench bench;
  Tape tape;
  const Var leaf = tape.leaf(bench.normal("x", {3, 4}, DType::kF32));
  ForwardContext forward = bench.forward(&tape);
  const Var y = scaled(forward, leaf, 0.5f);
  Tensor seed = bench.normal("seed", {3, 4}, DType::kF32);
  const void* storage = seed.raw();
  BackwardContext backward = bench.backward();
  tape.root(y, {std::move(seed), nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(tape.take(leaf).value.raw(), storage);
}

}  // namespace
}  // namespace deepflow
