#include "kernels/ops/expert_rows.h"

#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

constexpr int64_t kRows = 53, kExperts = 7, kChoices = 3, kWidth = 70;

// Expert 2 gets nothing, expert 5 one row; some choices are dropped, all of row 3.
Tensor some_choices(OpBench& bench) {
  Tensor expert = bench.empty({kRows, kChoices}, DType::kI32);
  const int32_t usual[] = {0, 1, 3, 4, 6};
  for (int64_t m = 0; m < kRows; ++m)
    for (int64_t j = 0; j < kChoices; ++j)
      expert.data<int32_t>()[m * kChoices + j] = (m * 7 + j * 5) % 11 == 4 ? -1 : usual[(m * m + j) % 5];
  for (int64_t j = 0; j < kChoices; ++j) expert.data<int32_t>()[3 * kChoices + j] = -1;
  expert.data<int32_t>()[20 * kChoices] = 5;
  return expert;
}

Tensor weights_for(OpBench& bench) { return bench.normal("weights", {kRows, kChoices}, DType::kF32); }

TEST(Dispatch, GivesEveryChoiceASlotInOrderOfRows) {
  OpBench bench;
  const Dispatch d = make_dispatch(bench.runtime, some_choices(bench), kExperts);
  ASSERT_EQ(d.begin.size(), static_cast<size_t>(kExperts) + 1);
  EXPECT_EQ(d.begin.front(), 0);
  EXPECT_EQ(d.begin[2], d.begin[3]);
  EXPECT_EQ(d.begin[5] + 1, d.begin[6]);
  ASSERT_EQ(d.source.num_elements(), d.num_slots());
  std::vector<int64_t> next(d.begin.begin(), d.begin.end() - 1);
  int64_t kept = 0;
  for (int64_t i = 0; i < kRows * kChoices; ++i) {
    const int32_t e = d.expert.data<int32_t>()[i], slot = d.slot.data<int32_t>()[i];
    if (e < 0) {
      EXPECT_EQ(slot, -1);
      continue;
    }
    ++kept;
    ASSERT_EQ(slot, next[static_cast<size_t>(e)]++);
    EXPECT_EQ(d.source.data<int32_t>()[slot], i / kChoices);
  }
  EXPECT_EQ(kept, d.num_slots());
}

TEST(Dispatch, OfNoRowsOrOnlyDroppedOnesHasNoSlots) {
  OpBench bench;
  EXPECT_EQ(make_dispatch(bench.runtime, bench.empty({0, 2}, DType::kI32), 4).begin, std::vector<int64_t>(5, 0));
  Tensor dropped = bench.empty({6, 2}, DType::kI32);
  std::fill_n(dropped.data<int32_t>(), 12, -1);
  const Dispatch d = make_dispatch(bench.runtime, dropped, 4);
  EXPECT_EQ(d.begin, std::vector<int64_t>(5, 0));
  ForwardContext context = bench.forward(nullptr);
  const Var x{bench.normal("x", {6, 8}, DType::kF32)}, weights{bench.normal("w", {6, 2}, DType::kF32)};
  const Var y = gather_rows(context, x, d);
  EXPECT_EQ(y.value.rows(), 0);
  EXPECT_EQ(sum_squares(bench.runtime, combine_rows(context, y, weights, d).value), 0);
}

struct Result {
  std::vector<double> gathered, out, dx, dweights;
  friend bool operator==(const Result&, const Result&) = default;
};

Result run(OpBench& bench, bool keeps_result = false) {
  const Dispatch d = make_dispatch(bench.runtime, some_choices(bench), kExperts);
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var x = tape.leaf(bench.normal("x", {kRows, kWidth}, bench.compute)), weights = tape.leaf(weights_for(bench));
  Result result;
  Tensor kept;
  Var out;
  {
    const Var y = gather_rows(forward, x, d);
    result.gathered = values_of(y.value);
    if (keeps_result) kept = y.value;
    out = combine_rows(forward, y, weights, d);
  }
  tape.root(out, {bench.normal("seed", {kRows, kWidth}, bench.compute), nullptr}, backward);
  tape.backward(backward);
  if (keeps_result) {
    EXPECT_EQ(values_of(kept), result.gathered) << "somebody else's value was overwritten";
  }
  result.out = values_of(out.value);
  result.dx = values_of(tape.take(x).value);
  result.dweights = values_of(tape.take(weights).value);
  return result;
}

Result reference(OpBench& bench) {
  const Dispatch d = make_dispatch(bench.runtime, some_choices(bench), kExperts);
  const std::vector<double> x = values_of(bench.normal("x", {kRows, kWidth}, bench.compute)),
                            w = values_of(weights_for(bench)),
                            seed = values_of(bench.normal("seed", {kRows, kWidth}, bench.compute));
  Result r;
  r.gathered.resize(static_cast<size_t>(d.num_slots() * kWidth));
  r.out.resize(x.size());
  r.dx.resize(x.size());
  r.dweights.resize(w.size());
  for (int64_t i = 0; i < kRows * kChoices; ++i) {
    const int32_t slot = d.slot.data<int32_t>()[i];
    if (slot < 0) continue;
    for (int64_t c = 0; c < kWidth; ++c) {
      const auto at = static_cast<size_t>(i / kChoices * kWidth + c), choice = static_cast<size_t>(i);
      r.gathered[static_cast<size_t>(slot * kWidth + c)] = x[at];
      r.out[at] += w[choice] * x[at];
      r.dx[at] += w[choice] * seed[at];
      r.dweights[choice] += x[at] * seed[at];
    }
  }
  return r;
}

TEST(ExpertRows, GoThereAndBackAsDefinedOnEveryInstructionSet) {
  for (const auto& [isa, dtype] : every_isa_and_dtype()) {
    SCOPED_TRACE(std::string(name_of(isa)) + " " + name_of(dtype));
    OpBench bench(dtype, {.cpu_isa = isa});
    const Result got = run(bench), expected = reference(bench);
    EXPECT_EQ(got.gathered, expected.gathered);
    EXPECT_LT(relative_error(got.out, expected.out), rounding_tolerance(dtype, 1e-6));
    EXPECT_LT(relative_error(got.dx, expected.dx), rounding_tolerance(dtype, 1e-6));
    EXPECT_LT(relative_error(got.dweights, expected.dweights), 1e-5);
    for (size_t i = 0; i < got.dweights.size(); ++i)
      if (expected.dweights[i] == 0) {
        EXPECT_EQ(got.dweights[i], 0) << "dropped";
      }
  }
}

TEST(ExpertRows, GiveTheSameBitsForAnyNumberOfThreads) {
  OpBench one(DType::kBF16, {.threads = 1}), three(DType::kBF16, {.threads = 3});
  EXPECT_EQ(run(one), run(three));
}

TEST(ExpertRows, OverwriteOnlyWhatNobodyElseHolds) {
  OpBench a(DType::kF32), b(DType::kF32);
  EXPECT_EQ(run(a, false), run(b, true));
}

TEST(ExpertRows, GradientsMatchFiniteDifferences) {
  OpBench bench;
  const Dispatch d = make_dispatch(bench.runtime, some_choices(bench), kExperts);
  Tensor x = bench.normal("x", {kRows, kWidth}, DType::kF32), weights = weights_for(bench);
  const std::vector<double> seed = values_of(bench.normal("seed", {kRows, kWidth}, DType::kF32));
  const auto loss = [&] {
    ForwardContext context = bench.forward(nullptr);
    const std::vector<double> out = values_of(combine_rows(context, gather_rows(context, {x}, d), {weights}, d).value);
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) sum += out[i] * seed[i];
    return sum;
  };
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var xs = tape.leaf(x), ws = tape.leaf(weights);
  const Var out = combine_rows(forward, gather_rows(forward, xs, d), ws, d);
  tape.root(out, {bench.normal("seed", {kRows, kWidth}, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  expect_gradient(x, tape.take(xs).value, loss, 0.05, 1e-4);
  expect_gradient(weights, tape.take(ws).value, loss, 0.05, 1e-4);
}

TEST(ExpertRows, AreMadeAgainFromARecipeWhereTheContextIsSelective) {
  for (const DType dtype : kComputeDtypes) {
    OpBench bench(dtype);
    const Dispatch d = make_dispatch(bench.runtime, some_choices(bench), kExperts);
    Tape tape;
    ForwardContext forward = bench.forward(&tape);
    const Var x = tape.leaf(bench.normal("x", {kRows, kWidth}, dtype));
    EXPECT_EQ(gather_rows(forward, x, d).recipe, nullptr);
    forward.selective = true;
    const Var y = gather_rows(forward, x, d);
    ASSERT_NE(y.recipe, nullptr);
    EXPECT_EQ(values_of(y.recipe->make(bench.runtime)), values_of(y.value));
  }
}

}  // namespace
}  // namespace deepflow::testing
