#include "kernels/ops/attention.h"

#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

struct Case {
  int64_t batch, sequence, heads, kv_heads, head_dim;
  int64_t window = 0;
  bool documents = false;
  float softcap = 0;
  int64_t value_dim = 0;
};

// document_start that cuts every sequence at uneven places.
Tensor cut_documents(OpBench& bench, int64_t batch, int64_t sequence) {
  Tensor start = bench.empty({batch * sequence}, DType::kI32);
  for (int64_t b = 0; b < batch; ++b) {
    int64_t document = 0;
    for (int64_t r = 0; r < sequence; ++r) {
      if (r % 37 == 5 + b || r == 66) document = r;
      start.data<int32_t>()[b * sequence + r] = static_cast<int32_t>(document);
    }
  }
  return start;
}

struct AttentionBench : OpBench {
  AttentionBench(const Case& c, DType dtype, const RuntimeOptions& options = {}) : OpBench(dtype, options), shape(c) {
    attention_shape.heads = c.heads;
    attention_shape.kv_heads = c.kv_heads;
    attention_shape.head_dim = c.head_dim;
    attention_shape.scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    attention_shape.window = c.window;
    attention_shape.softcap = c.softcap;
    attention_shape.value_dim = c.value_dim;
    if (c.documents) document_start = cut_documents(*this, c.batch, c.sequence);
    const int64_t rows = c.batch * c.sequence;
    qkv = normal("qkv", {rows, attention_shape.qkv_width()}, dtype);
    d_o = normal("d_o", {rows, attention_shape.out_width()}, dtype);
  }
  ForwardContext context(Tape* tape) {
    ForwardContext context = forward(tape);
    context.rows.batch = shape.batch;
    context.rows.sequence = shape.sequence;
    context.rows.document_start = document_start;
    return context;
  }
  Tensor run(std::span<float> largest = {}) {
    ForwardContext forward = context(nullptr);
    return attention(forward, {qkv}, attention_shape, largest).value;
  }
  // Of every head; -infinity where there are no rows.
  std::vector<double> largest() {
    std::vector<float> scores(static_cast<size_t>(shape.heads), -std::numeric_limits<float>::infinity());
    run(scores);
    return {scores.begin(), scores.end()};
  }
  Tensor gradient() {
    Tape tape;
    ForwardContext forward = context(&tape);
    const Var leaf = tape.leaf(qkv);
    const Var o = attention(forward, leaf, attention_shape);
    BackwardContext back = backward();
    tape.root(o, {d_o, nullptr}, back);
    tape.backward(back);
    return tape.take(leaf).value;
  }

  Case shape;
  AttentionShape attention_shape;
  Tensor document_start, qkv, d_o;
};

struct Reference {
  std::vector<double> o, dqkv;
  std::vector<double> largest, terms;  // of each head: score, sum of the sizes of what is added up for one
};

// The definition, row by row, in double precision.
Reference reference(const AttentionBench& b) {
  const Case& c = b.shape;
  const auto x = values_of(b.qkv), d = values_of(b.d_o);
  const size_t cols = static_cast<size_t>(b.qkv.cols()), o_cols = static_cast<size_t>(b.d_o.cols());
  const size_t n = static_cast<size_t>(c.head_dim), m = static_cast<size_t>(b.attention_shape.value_columns());
  Reference ref{std::vector<double>(d.size()), std::vector<double>(x.size()),
                std::vector<double>(static_cast<size_t>(c.heads), -HUGE_VAL),
                std::vector<double>(static_cast<size_t>(c.heads))};
  for (int64_t batch = 0; batch < c.batch; ++batch)
    for (int64_t head = 0; head < c.heads; ++head)
      for (int64_t r = 0; r < c.sequence; ++r) {
        const int64_t kv_head = head / (c.heads / c.kv_heads), base = batch * c.sequence;
        int64_t first = b.document_start.defined() ? b.document_start.data<int32_t>()[base + r] : 0;
        if (c.window > 0) first = std::max(first, r - c.window + 1);
        const auto at = [&](int64_t row, int64_t slot) {
          return static_cast<size_t>(base + row) * cols + static_cast<size_t>(slot) * n;
        };
        const size_t q = at(r, head), o = static_cast<size_t>(base + r) * o_cols + static_cast<size_t>(head) * m;
        std::vector<double> w, slopes;
        double sum = 0;
        for (int64_t k = first; k <= r; ++k) {
          double s = 0, size = 0;
          for (size_t j = 0; j < n; ++j) {
            const double term = x[q + j] * x[at(k, c.heads + kv_head) + j];
            s += term;
            size += std::abs(term);
          }
          double& terms = ref.terms[static_cast<size_t>(head)];
          terms = std::max(terms, size * static_cast<double>(b.attention_shape.scale));
          s *= static_cast<double>(b.attention_shape.scale);
          const double cap = static_cast<double>(c.softcap), squashed = c.softcap > 0 ? std::tanh(s / cap) : 0;
          w.push_back(std::exp(c.softcap > 0 ? cap * squashed : s));
          double& largest = ref.largest[static_cast<size_t>(head)];
          largest = std::max(largest, c.softcap > 0 ? cap * squashed : s);
          slopes.push_back((1 - squashed * squashed) * static_cast<double>(b.attention_shape.scale));
          sum += w.back();
        }
        double delta = 0;
        std::vector<double> dw(w.size());
        for (size_t k = 0; k < w.size(); ++k) {
          w[k] /= sum;
          const size_t v = at(first + static_cast<int64_t>(k), c.heads + c.kv_heads) + static_cast<size_t>(kv_head) * m;
          for (size_t j = 0; j < m; ++j) {
            ref.o[o + j] += w[k] * x[v + j];
            dw[k] += d[o + j] * x[v + j];
            ref.dqkv[v + j] += w[k] * d[o + j];
          }
          delta += w[k] * dw[k];
        }
        for (size_t k = 0; k < w.size(); ++k) {
          const double ds = w[k] * (dw[k] - delta) * slopes[k];
          const size_t key = at(first + static_cast<int64_t>(k), c.heads + kv_head);
          for (size_t j = 0; j < n; ++j) {
            ref.dqkv[q + j] += ds * x[key + j];
            ref.dqkv[key + j] += ds * x[q + j];
          }
        }
      }
  return ref;
}

void expect_matches_reference(const Case& c, DType dtype, const RuntimeOptions& options = {}) {
  SCOPED_TRACE(fmt::format("{} B {} T {} heads {}/{} head_dim {} window {} documents {} softcap {} value_dim {}",
                           name_of(dtype), c.batch, c.sequence, c.heads, c.kv_heads, c.head_dim, c.window, c.documents,
                           c.softcap, c.value_dim));
  AttentionBench bench(c, dtype, options);
  const Reference ref = reference(bench);
  EXPECT_LT(relative_error(values_of(bench.run()), ref.o), testing::rounding_tolerance(dtype, 6e-7, 6e-3));
  EXPECT_LT(relative_error(values_of(bench.gradient()), ref.dqkv), testing::rounding_tolerance(dtype, 1e-6, 8e-3));
  const std::vector<double> largest = bench.largest();
  for (size_t h = 0; h < largest.size(); ++h)
    EXPECT_NEAR(largest[h], ref.largest[h],
                c.softcap > 0 ? testing::rounding_tolerance(dtype, 2e-6, 6e-3) * ref.largest[h] : 1e-6 * ref.terms[h]);
}

const Case kCases[] = {
    {1, 1, 1, 1, 64},                       // one row
    {2, 7, 2, 2, 8},                        // shorter than a block
    {1, 64, 2, 1, 64},                      // exactly one block
    {1, 65, 1, 1, 64},                      // one row more
    {2, 150, 4, 2, 64},                     // grouped keys
    {1, 130, 6, 1, 20},                     // one key head, odd head size
    {1, 100, 2, 2, 36},                     // no multiple of 8
    {1, 90, 2, 1, 128},                     //
    {1, 70, 1, 1, 256},                     // largest head
    {1, 200, 2, 1, 80, 50},                 // window shorter than a block
    {1, 300, 2, 2, 16, 100},                // window across blocks
    {2, 180, 2, 1, 64, 0, true},            // documents
    {1, 260, 4, 2, 24, 90, true},           // documents and window
    {2, 150, 4, 2, 64, 0, false, 1.5f},     // soft cap where scores often reach it
    {1, 140, 2, 1, 36, 40, true, 50.0f},    // and where they seldom do
    {1, 150, 2, 2, 192, 0, false, 0, 128},  // values narrower than keys
    {2, 100, 4, 2, 24, 0, true, 0, 10},     // and no multiple of anything
    {1, 140, 2, 1, 16, 50, true, 0, 72},    // wider
    {2, 150, 4, 2, 40, 0, false, 1.5f, 24},
};

TEST(Attention, MatchesTheDefinitionForEveryDtypeShapeAndInstructionSet) {
  for (const CpuIsa isa : testing::runnable_isas()) {
    SCOPED_TRACE(name_of(isa));
    RuntimeOptions options;
    options.cpu_isa = isa;
    for (const DType dtype : testing::kComputeDtypes)
      for (const Case& c : kCases) expect_matches_reference(c, dtype, options);
  }
}

TEST(Attention, ResultDoesNotDependOnTheCutIntoParts) {
  for (const int threads : {1, 2, 3, 5}) {
    SCOPED_TRACE(threads);
    RuntimeOptions options;
    options.threads = threads;
    expect_matches_reference({1, 300, 4, 1, 32, 0, true}, DType::kF32, options);
    expect_matches_reference({1, 300, 2, 2, 32, 70, false}, DType::kBF16, options);
    expect_matches_reference({1, 300, 2, 1, 48, 70, true, 0, 20}, DType::kF32, options);
  }
}

TEST(Attention, AskingForTheLargestScoresChangesNoBitOfTheResult) {
  for (const DType dtype : testing::kComputeDtypes) {
    AttentionBench bench({2, 150, 4, 2, 24, 40, true}, dtype);
    std::vector<float> scores(4, 1e9f);
    EXPECT_EQ(values_of(bench.run(scores)), values_of(bench.run()));
    EXPECT_EQ(scores, std::vector<float>(4, 1e9f));  // they are only raised
  }
}

TEST(Attention, LargestScoresDoNotDependOnTheCutIntoParts) {
  std::vector<std::vector<double>> found;
  for (const int threads : {1, 2, 3, 5}) {
    RuntimeOptions options;
    options.threads = threads;
    AttentionBench bench({2, 300, 4, 2, 32, 70, true}, DType::kF32, options);
    found.push_back(bench.largest());
    EXPECT_EQ(found.back(), found.front()) << threads;
  }
}

TEST(Attention, GradientsMatchDifferenceQuotients) {
  RuntimeOptions options;
  options.threads = 1;
  for (const float softcap : {0.0f, 1.5f})
    for (const int64_t value_dim : {0, 4, 12}) {
      AttentionBench bench({1, 9, 4, 2, 8, 5, true, softcap, value_dim}, DType::kF32, options);
      const auto weights = values_of(bench.d_o);
      const Tensor gradient = bench.gradient();
      const auto loss = [&] {
        const auto o = values_of(bench.run());
        double sum = 0;
        for (size_t i = 0; i < o.size(); ++i) sum += o[i] * weights[i];
        return sum;
      };
      expect_gradient(bench.qkv, gradient, loss, 1e-2, 2e-3, 100);
    }
}

// Its score has no say, and an optimizer that scales gradients would follow rounding errors.
TEST(Attention, RowsThatSeeOnlyThemselvesHaveNoGradientOfTheirScore) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const int64_t sequence : {1, 70}) {
      RuntimeOptions options;
      options.cpu_isa = isa;
      AttentionBench bench({3, sequence, 4, 2, 8, 1}, DType::kF32, options);  // a window of one row
      const Tensor gradient = bench.gradient();
      for (int64_t row = 0; row < gradient.rows(); ++row)
        for (int64_t column = 0; column < (4 + 2) * 8; ++column)
          ASSERT_EQ(gradient.data<float>()[row * gradient.ld() + column], 0) << name_of(isa) << " " << row;
    }
}

TEST(Attention, TwoRunsGiveTheSameBits) {
  for (const DType dtype : testing::kComputeDtypes)
    for (const int64_t batch : {1, 3}) {
      AttentionBench bench({batch, 140, 2, 1, 64, 0, true}, dtype);
      const auto o = values_of(bench.run()), dqkv = values_of(bench.gradient());
      EXPECT_EQ(values_of(bench.run()), o);
      EXPECT_EQ(values_of(bench.gradient()), dqkv);
    }
}

TEST(Attention, BackwardTakesThePlaceOfQkvThatItAloneOwns) {
  AttentionBench bench({2, 100, 4, 2, 64}, DType::kBF16);
  const auto expected = values_of(bench.gradient());
  Tape tape;
  ForwardContext forward = bench.context(&tape);
  const void* storage = bench.qkv.raw();
  const Var leaf = tape.leaf(Tensor());
  const Var o = attention(forward, {std::move(bench.qkv), leaf.node, 0}, bench.attention_shape);
  bench.qkv = {};
  BackwardContext back = bench.backward();
  tape.root(o, {bench.d_o, nullptr}, back);
  tape.backward(back);
  const Tensor dqkv = tape.take(leaf).value;
  EXPECT_EQ(dqkv.raw(), storage);
  EXPECT_EQ(values_of(dqkv), expected);
}

TEST(Attention, HugeScoresStayFinite) {
  AttentionBench bench({1, 80, 1, 1, 16}, DType::kF32);
  scale(bench.runtime, bench.qkv, 100);
  for (const double x : values_of(bench.run())) ASSERT_TRUE(std::isfinite(x));
  for (const double x : values_of(bench.gradient())) ASSERT_TRUE(std::isfinite(x));
}

TEST(Attention, WorkingMemoryGrowsWithTheLengthAndNotWithItsSquare) {
  RuntimeOptions options;
  options.threads = 1;
  int64_t peaks[2];
  for (const int doubled : {0, 1}) {
    AttentionBench bench({1, 1024 << doubled, 1, 1, 64}, DType::kF32, options);
    const int64_t before = bench.runtime.memory().stats().in_use;
    bench.gradient();
    peaks[doubled] = bench.runtime.memory().stats().peak - before;
  }
  EXPECT_LT(peaks[1], 5 * peaks[0] / 2);
  EXPECT_LT(peaks[1], int64_t{2048} * 2048 * 4 / 2);
}

TEST(Attention, ZeroRowsPass) {
  AttentionBench bench({0, 16, 2, 2, 16}, DType::kF32);
  EXPECT_EQ(bench.run().num_elements(), 0);
  EXPECT_EQ(bench.largest(), std::vector<double>(2, -HUGE_VAL));
  EXPECT_EQ(bench.gradient().num_elements(), 0);
}

// Feeds `qkv` in pieces of the given sizes through a cache; returns the outputs side by side. values_in_keys: the
// values of qkv are the first columns of its keys, and the cache need not be told.
std::vector<double> run_cached(AttentionBench& bench, const std::vector<int64_t>& pieces, bool values_in_keys = false) {
  const Case& c = bench.shape;
  const AttentionShape& shape = bench.attention_shape;
  KeyValueCache cache(bench.runtime, 2, c.batch, c.sequence + 3,
                      {c.kv_heads, c.head_dim, shape.value_columns(), values_in_keys}, bench.compute);
  const size_t width = static_cast<size_t>(shape.out_width());
  const int64_t columns = shape.qkv_width() - (values_in_keys ? shape.value_width() : 0);
  std::vector<double> o(static_cast<size_t>(c.batch * c.sequence) * width);
  int64_t done = 0;
  for (const int64_t n : pieces) {
    ForwardContext context = bench.context(nullptr);
    context.rows.sequence = n;
    Tensor qkv = bench.empty({c.batch * n, columns}, bench.compute);
    Tensor start = bench.empty({c.batch * n}, DType::kI32);
    for (int64_t b = 0; b < c.batch; ++b) {
      Tensor to = qkv.row_range(b * n, (b + 1) * n);
      const int64_t row = b * c.sequence + done;
      copy(bench.runtime, bench.qkv.row_range(row, row + n).column_range(0, columns), to);
      for (int64_t r = 0; r < n && bench.document_start.defined(); ++r)
        start.data<int32_t>()[b * n + r] = bench.document_start.data<int32_t>()[b * c.sequence + done + r];
    }
    if (bench.document_start.defined()) context.rows.document_start = start;
    const auto piece = values_of(attention_cached(context, qkv, bench.attention_shape, cache, 1));
    for (int64_t b = 0; b < c.batch; ++b)
      std::copy_n(piece.begin() + b * n * static_cast<int64_t>(width), static_cast<size_t>(n) * width,
                  o.begin() + (b * c.sequence + done) * static_cast<int64_t>(width));
    cache.advance(n);
    done += n;
  }
  EXPECT_EQ(done, c.sequence);
  return o;
}

TEST(AttentionCached, EqualsFullAttentionHoweverTheTokensArrive) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const DType dtype : testing::kComputeDtypes)
      for (const Case& c : {Case{2, 90, 4, 2, 64}, Case{1, 90, 6, 1, 24, 20}, Case{3, 90, 2, 2, 8, 0, true},
                            Case{2, 90, 4, 2, 24, 31, false, 2.0f}, Case{2, 90, 4, 2, 48, 0, true, 0, 20},
                            Case{1, 90, 3, 1, 8, 0, false, 0, 40}, Case{2, 90, 32, 2, 24, 31, true, 2.0f},
                            Case{1, 90, 40, 1, 20, 0, true, 0, 36}}) {
        RuntimeOptions options;
        options.cpu_isa = isa;
        AttentionBench bench(c, dtype, options);
        const auto full = values_of(bench.run());
        const double tolerance = testing::rounding_tolerance(dtype, 1e-6, 8e-3);
        std::vector<int64_t> one_by_one = {86, 1, 1, 1, 1};
        EXPECT_LT(relative_error(run_cached(bench, {90}), full), tolerance);
        EXPECT_LT(relative_error(run_cached(bench, one_by_one), full), tolerance);
        EXPECT_LT(relative_error(run_cached(bench, {1, 3, 60, 5, 2, 19}), full), tolerance);
      }
}

// Values that are columns of keys, for few and many heads, and threads that share a key head's queries.
TEST(AttentionCached, ValuesMayBeKeptInKeys) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const DType dtype : testing::kComputeDtypes)
      for (const Case& c : {Case{2, 90, 2, 1, 24, 0, true, 0, 16}, Case{1, 90, 50, 1, 40, 31, true, 0, 36},
                            Case{2, 90, 32, 2, 20, 0, true, 2.0f, 20}, Case{1, 7, 128, 1, 576, 0, false, 0, 512}}) {
        RuntimeOptions options;
        options.cpu_isa = isa;
        options.threads = 3;
        AttentionBench bench(c, dtype, options);
        const AttentionShape& shape = bench.attention_shape;
        for (int64_t h = 0; h < c.kv_heads; ++h) {
          const int64_t key = shape.query_width() + h * c.head_dim;
          const int64_t value = shape.query_width() + shape.key_width() + h * c.value_dim;
          Tensor to = bench.qkv.column_range(value, value + c.value_dim);
          copy(bench.runtime, bench.qkv.column_range(key, key + c.value_dim), to);
        }
        const auto full = values_of(bench.run());
        const double tolerance = testing::rounding_tolerance(dtype, 1e-6, 8e-3);
        EXPECT_LT(relative_error(run_cached(bench, {c.sequence}, true), full), tolerance);
        EXPECT_LT(relative_error(run_cached(bench, {c.sequence - 3, 1, 2}, true), full), tolerance);
      }
}

TEST(AttentionCached, ManyHeadsReadALongCacheInSeveralRuns) {
  for (const DType dtype : testing::kComputeDtypes)
    for (const Case& c : {Case{1, 1300, 16, 1, 8}, Case{1, 1300, 20, 1, 8, 900, true, 0, 12}}) {
      AttentionBench bench(c, dtype);
      const auto full = values_of(bench.run());
      EXPECT_LT(relative_error(run_cached(bench, {1020, 4, 1, 270, 3, 2}), full),
                testing::rounding_tolerance(dtype, 1e-6, 8e-3));
    }
}

TEST(KeyValueCache, HasNoMemoryForValuesThatAreInKeys) {
  OpBench bench;
  const int64_t before = bench.runtime.memory().stats().in_use;
  KeyValueCache cache(bench.runtime, 2, 3, 50, {1, 24, 16, true}, DType::kF32);
  EXPECT_LT(bench.runtime.memory().stats().in_use - before, int64_t{2} * 3 * 50 * (24 + 16) * 4);
  EXPECT_EQ(cache.keys(1).shape(), (Shape{3, 1, 50, 24}));
  EXPECT_EQ(cache.shape().columns(), 24);
  EXPECT_EQ((CacheShape{2, 24, 16}.columns()), 80);
}

TEST(KeyValueCache, RepeatedSequencesHoldWhatTheOneHeld) {
  OpBench bench;
  KeyValueCache one(bench.runtime, 2, 1, 3, {2, 4, 6}, DType::kF32);
  for (const int layer : {0, 1}) {
    one.keys(layer) = bench.normal(fmt::format("k{}", layer), {1, 2, 3, 4}, DType::kF32);
    one.values(layer) = bench.normal(fmt::format("v{}", layer), {1, 2, 3, 6}, DType::kF32);
  }
  one.advance(2);
  KeyValueCache many = one.repeated(bench.runtime, 3, 5);
  EXPECT_EQ(many.length(), 2);
  EXPECT_EQ(many.capacity(), 5);
  for (const int layer : {0, 1})
    for (int64_t i = 0; i < 3 * 2; ++i)  // sequences x heads
      for (const int64_t columns : {4, 6}) {
        const auto held = [&](KeyValueCache& cache) {
          return (columns == 4 ? cache.keys(layer) : cache.values(layer)).data<float>();
        };
        for (int64_t j = 0; j < 2 * columns; ++j)  // tokens x columns
          EXPECT_EQ(held(many)[i * 5 * columns + j], held(one)[i % 2 * 3 * columns + j]);
      }
}

TEST(KeyValueCache, TruncateForgetsTheNewestTokens) {
  OpBench bench;
  KeyValueCache cache(bench.runtime, 1, 1, 10, {2, 4, 4}, DType::kF32);
  cache.advance(7);
  cache.truncate(4);
  EXPECT_EQ(cache.length(), 4);
  EXPECT_EQ(cache.keys(0).shape(), (Shape{1, 2, 10, 4}));
}

}  // namespace
}  // namespace deepflow
