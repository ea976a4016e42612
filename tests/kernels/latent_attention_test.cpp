#include "kernels/ops/latent_attention.h"

#include "core/error.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/linear.h"
#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

struct Case {
  LatentHeads heads;
  int64_t rank, batch, sequence;
};

struct LatentBench : OpBench {
  LatentBench(const Case& c, DType dtype, const RuntimeOptions& options = {}) : OpBench(dtype, options), shape(c) {
    const LatentHeads& h = c.heads;
    const int64_t rows = c.batch * c.sequence;
    RopeOptions rope_options;
    rope_options.head_dim = h.rope_dim;
    rope_options.max_positions = 256;
    table = make_rope_table(runtime, rope_options);
    positions = empty({rows}, DType::kI32);
    for (int64_t r = 0; r < rows; ++r)
      positions.data<int32_t>()[r] = static_cast<int32_t>(r % c.sequence + r / c.sequence);
    q = normal("q", {rows, h.heads * h.key_dim()}, dtype);
    kv = normal("kv", {rows, h.heads * h.up_dim()}, dtype);
    k_rope = normal("k_rope", {rows, h.rope_dim}, dtype);
    latent = normal("latent", {rows, c.rank}, dtype);
    up = &store.add_normal("kv_up", {h.heads * h.up_dim(), c.rank}, Role::kMatrix,
                           1 / std::sqrt(static_cast<float>(c.rank)));
  }
  ForwardContext context(Tape* tape) {
    ForwardContext context = forward(tape);
    context.rows.batch = shape.batch;
    context.rows.sequence = shape.sequence;
    context.rows.positions = positions;
    return context;
  }
  AttentionShape attention_shape() const {
    const LatentHeads& h = shape.heads;
    AttentionShape a;
    a.heads = a.kv_heads = h.heads;
    a.head_dim = h.key_dim();
    a.value_dim = h.value_dim;
    a.scale = 1 / std::sqrt(static_cast<float>(h.key_dim()));
    return a;
  }
  Tensor expanded() {
    ForwardContext c = context(nullptr);
    const Var up_projected = linear(c, {latent}, *up, nullptr);
    return attention(c, latent_qkv(c, {q}, up_projected, {k_rope}, shape.heads, table), attention_shape()).value;
  }

  Case shape;
  RopeTable table;
  Tensor positions, q, kv, k_rope, latent;
  Pack* up;
};

// x[at, at + rope) of one row, rotated by the row's position.
void rotate(const LatentBench& b, size_t row, std::vector<double>& x, size_t at) {
  const int64_t half = b.table.cos.cols(), from = b.positions.data<int32_t>()[row] * half;
  for (int64_t i = 0; i < half; ++i) {
    const double c = b.table.cos.data<float>()[from + i], s = b.table.sin.data<float>()[from + i];
    double &even = x[at + static_cast<size_t>(2 * i)], &odd = x[at + static_cast<size_t>(2 * i + 1)];
    const double rotated = even * c - odd * s;
    odd = even * s + odd * c;
    even = rotated;
  }
}

// The definition, in double precision.
std::vector<double> reference(const LatentBench& b) {
  const LatentHeads& h = b.shape.heads;
  const auto q = values_of(b.q), kv = values_of(b.kv), k_rope = values_of(b.k_rope);
  const auto heads = static_cast<size_t>(h.heads), nope = static_cast<size_t>(h.nope_dim),
             rope = static_cast<size_t>(h.rope_dim), value = static_cast<size_t>(h.value_dim);
  std::vector<double> qkv;
  for (size_t row = 0; row < static_cast<size_t>(b.q.rows()); ++row) {
    std::vector<double> queries(q.begin() + static_cast<int64_t>(row) * b.q.cols(),
                                q.begin() + static_cast<int64_t>(row + 1) * b.q.cols());
    std::vector<double> keys, values,
        shared(k_rope.begin() + static_cast<int64_t>(row * rope),
               k_rope.begin() + static_cast<int64_t>((row + 1) * rope));
    rotate(b, row, shared, 0);
    for (size_t head = 0; head < heads; ++head) {
      rotate(b, row, queries, head * (nope + rope) + nope);
      const size_t at = (row * heads + head) * (nope + value);
      for (size_t j = 0; j < nope; ++j) keys.push_back(kv[at + j]);
      keys.insert(keys.end(), shared.begin(), shared.end());
      for (size_t j = 0; j < value; ++j) values.push_back(kv[at + nope + j]);
    }
    for (const auto* part : {&queries, &keys, &values}) qkv.insert(qkv.end(), part->begin(), part->end());
  }
  return qkv;
}

const Case kCases[] = {
    {{1, 2, 2, 2}, 4, 1, 1},        {{3, 6, 10, 4}, 6, 2, 7},     {{2, 24, 34, 40}, 36, 1, 19},
    {{4, 128, 64, 128}, 512, 1, 9}, {{16, 16, 8, 12}, 70, 3, 20}, {{1, 20, 16, 18}, 64, 2, 3},
};

RuntimeOptions options_of(CpuIsa isa) {
  RuntimeOptions options;
  options.cpu_isa = isa;
  options.threads = 3;
  return options;
}

TEST(LatentQkv, MatchesTheDefinitionForEveryDtypeShapeAndInstructionSet) {
  for (const testing::IsaAndDtype& on : testing::every_isa_and_dtype())
    for (const Case& c : kCases) {
      LatentBench bench(c, on.dtype, options_of(on.isa));
      ForwardContext context = bench.context(nullptr);
      const Var qkv = latent_qkv(context, {bench.q}, {bench.kv}, {bench.k_rope}, c.heads, bench.table);
      EXPECT_LT(relative_error(values_of(qkv.value), reference(bench)), testing::rounding_tolerance(on.dtype, 2e-7));
    }
}

// The gradients of sum(qkv * weights), which is linear in all three inputs.
struct Gradients {
  Tensor q, kv, k_rope;
};
Gradients gradients(LatentBench& bench, const Tensor& weights) {
  Tape tape;
  ForwardContext context = bench.context(&tape);
  const Var q = tape.leaf(bench.q), kv = tape.leaf(bench.kv), k_rope = tape.leaf(bench.k_rope);
  const Var qkv = latent_qkv(context, q, kv, k_rope, bench.shape.heads, bench.table);
  BackwardContext back = bench.backward();
  tape.root(qkv, {weights, nullptr}, back);
  tape.backward(back);
  return {tape.take(q).value, tape.take(kv).value, tape.take(k_rope).value};
}
int64_t qkv_width(const LatentHeads& h) { return h.heads * (2 * h.key_dim() + h.value_dim); }

TEST(LatentQkv, GradientsMatchDifferenceQuotients) {
  LatentBench bench({{3, 6, 10, 4}, 8, 2, 3}, DType::kF32);
  const Tensor weights = bench.normal("weights", {bench.q.rows(), qkv_width(bench.shape.heads)}, DType::kF32);
  const auto w = values_of(weights);
  const Gradients g = gradients(bench, weights);
  const auto loss = [&] {
    ForwardContext context = bench.context(nullptr);
    const auto qkv =
        values_of(latent_qkv(context, {bench.q}, {bench.kv}, {bench.k_rope}, bench.shape.heads, bench.table).value);
    double sum = 0;
    for (size_t i = 0; i < qkv.size(); ++i) sum += qkv[i] * w[i];
    return sum;
  };
  expect_gradient(bench.q, g.q, loss, 0.5, 1e-4, 200);
  expect_gradient(bench.kv, g.kv, loss, 0.5, 1e-4, 200);
  expect_gradient(bench.k_rope, g.k_rope, loss, 0.5, 1e-4, 200);
}

// Gradients of an op that only moves and rotates are its transpose: <weights, qkv(x)> = <gradient, x>, here element by
// element against f32, for every dtype.
TEST(LatentQkv, GradientsOfEveryDtypeAreThoseOfF32) {
  for (const testing::IsaAndDtype& on : testing::every_isa_and_dtype())
    for (const Case& c : kCases) {
      LatentBench bench(c, on.dtype, options_of(on.isa)), exact(c, DType::kF32, options_of(on.isa));
      const Tensor weights = bench.normal("weights", {bench.q.rows(), qkv_width(c.heads)}, on.dtype);
      const Gradients g = gradients(bench, weights), e = gradients(exact, bench.cast(weights, DType::kF32));
      EXPECT_LT(relative_error(values_of(g.q), values_of(e.q)), testing::rounding_tolerance(on.dtype, 1e-12));
      EXPECT_LT(relative_error(values_of(g.kv), values_of(e.kv)), testing::rounding_tolerance(on.dtype, 1e-12, 1e-12));
      EXPECT_LT(relative_error(values_of(g.k_rope), values_of(e.k_rope)), testing::rounding_tolerance(on.dtype, 1e-12));
    }
}

TEST(LatentQkv, RefusesPositionsBeyondTheTable) {
  LatentBench bench(kCases[1], DType::kF32);
  bench.positions.data<int32_t>()[3] = 256;
  ForwardContext context = bench.context(nullptr);
  EXPECT_THROW(latent_qkv(context, {bench.q}, {bench.kv}, {bench.k_rope}, bench.shape.heads, bench.table), DataError);
  EXPECT_THROW(latent_keys(context, bench.latent, bench.k_rope, bench.table), DataError);
}

TEST(LatentQkv, ZeroRowsPass) {
  LatentBench bench({{2, 4, 4, 4}, 8, 0, 16}, DType::kF32);
  const Tensor weights = bench.empty({0, qkv_width(bench.shape.heads)}, DType::kF32);
  EXPECT_EQ(gradients(bench, weights).k_rope.num_elements(), 0);
  ForwardContext context = bench.context(nullptr);
  const Tensor keys = latent_keys(context, bench.latent, bench.k_rope, bench.table);
  EXPECT_EQ(absorbed_qk(context, bench.q, keys, *bench.up, bench.shape.heads, bench.table).num_elements(), 0);
}

// Rows [begin, begin + n) of every sequence.
Tensor rows_of(LatentBench& bench, const Tensor& x, int64_t begin, int64_t n) {
  Tensor rows = bench.empty({bench.shape.batch * n, x.cols()}, x.dtype());
  for (int64_t b = 0; b < bench.shape.batch; ++b) {
    Tensor to = rows.row_range(b * n, (b + 1) * n);
    copy(bench.runtime, x.row_range(b * bench.shape.sequence + begin, b * bench.shape.sequence + begin + n), to);
  }
  return rows;
}

// The same attention over latents, the tokens of every sequence in pieces of the given sizes.
std::vector<double> absorbed(LatentBench& bench, const std::vector<int64_t>& pieces) {
  const Case& c = bench.shape;
  AttentionShape shape = bench.attention_shape();
  shape.kv_heads = 1;
  shape.head_dim = c.rank + c.heads.rope_dim;
  shape.value_dim = c.rank;
  KeyValueCache cache(bench.runtime, 1, c.batch, c.sequence, {1, shape.head_dim, c.rank, true}, bench.compute);
  const auto width = static_cast<size_t>(c.heads.heads * c.heads.value_dim);
  std::vector<double> o(static_cast<size_t>(c.batch * c.sequence) * width);
  int64_t done = 0;
  for (const int64_t n : pieces) {
    ForwardContext context = bench.context(nullptr);
    context.rows.sequence = n;
    context.rows.positions = bench.empty({c.batch * n}, DType::kI32);
    for (int64_t b = 0; b < c.batch; ++b)
      std::copy_n(bench.positions.data<int32_t>() + b * c.sequence + done, n,
                  context.rows.positions.data<int32_t>() + b * n);
    const Tensor keys =
        latent_keys(context, rows_of(bench, bench.latent, done, n), rows_of(bench, bench.k_rope, done, n), bench.table);
    const Tensor qk = absorbed_qk(context, rows_of(bench, bench.q, done, n), keys, *bench.up, c.heads, bench.table);
    const Tensor latents = attention_cached(context, qk, shape, cache, 0);
    const auto piece = values_of(absorbed_values(context, latents, *bench.up, c.heads));
    cache.advance(n);
    for (int64_t b = 0; b < c.batch; ++b)
      std::copy_n(piece.begin() + b * n * static_cast<int64_t>(width), static_cast<size_t>(n) * width,
                  o.begin() + (b * c.sequence + done) * static_cast<int64_t>(width));
    done += n;
  }
  EXPECT_EQ(done, c.sequence);
  EXPECT_EQ(bench.store.acquired(*bench.up), 0);
  return o;
}

TEST(AbsorbedAttention, EqualsTheExpandedOneHoweverTheTokensArrive) {
  for (const testing::IsaAndDtype& on : testing::every_isa_and_dtype())
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{} {} heads {} rank {}", name_of(on.isa), name_of(on.dtype), c.heads.heads, c.rank));
      LatentBench bench(c, on.dtype, options_of(on.isa));
      const auto expanded = values_of(bench.expanded());
      const double tolerance = testing::rounding_tolerance(on.dtype, 1e-6, 1e-2);
      std::vector<int64_t> one_by_one(static_cast<size_t>(c.sequence), 1);
      EXPECT_LT(relative_error(absorbed(bench, {c.sequence}), expanded), tolerance);
      EXPECT_LT(relative_error(absorbed(bench, one_by_one), expanded), tolerance);
      if (c.sequence > 6) {
        EXPECT_LT(relative_error(absorbed(bench, {c.sequence - 6, 2, 4}), expanded), tolerance);
      }
    }
}

TEST(AbsorbedAttention, ARowIsTheSameBitsWhateverStandsBeside) {
  for (const DType dtype : testing::kComputeDtypes) {
    LatentBench bench({{3, 20, 10, 18}, 70, 1, 37}, dtype);
    const int64_t n = bench.shape.sequence;
    const auto run = [&](int64_t begin, int64_t count) {
      ForwardContext context = bench.context(nullptr);
      context.rows.sequence = count;
      context.rows.positions = bench.positions.flat_range(begin, begin + count);
      const Tensor keys = latent_keys(context, bench.latent.row_range(begin, begin + count),
                                      bench.k_rope.row_range(begin, begin + count), bench.table);
      const Tensor qk = absorbed_qk(context, bench.q.row_range(begin, begin + count), keys, *bench.up,
                                    bench.shape.heads, bench.table);
      // Any rows of heads * rank columns will do for the way out.
      const Tensor o = absorbed_values(context, qk.column_range(0, 3 * bench.shape.rank), *bench.up, bench.shape.heads);
      auto result = values_of(qk);
      const auto out = values_of(o);
      result.insert(result.end(), out.begin(), out.end());
      return result;
    };
    const auto all = run(0, n), one = run(n - 2, 1);
    const size_t qk_width = static_cast<size_t>(4 * (70 + 10)), out_width = 3 * 18;
    ASSERT_EQ(one.size(), qk_width + out_width);
    for (size_t j = 0; j < qk_width; ++j) ASSERT_EQ(one[j], all[static_cast<size_t>(n - 2) * qk_width + j]);
    for (size_t j = 0; j < out_width; ++j)
      ASSERT_EQ(one[qk_width + j], all[static_cast<size_t>(n) * qk_width + static_cast<size_t>(n - 2) * out_width + j]);
  }
}

}  // namespace
}  // namespace deepflow
