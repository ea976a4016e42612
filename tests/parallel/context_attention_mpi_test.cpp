#include "kernels/ops/rope.h"
#include "parallel/ops/ring_attention.h"
#include "parallel/ops/ulysses_attention.h"
#include "tests/kernels/test_store.h"
#include "tests/parallel/mpi_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

using testing::OpBench;
using testing::values_of;

struct Case {
  int64_t batch, sequence, heads, kv_heads, head_dim;
  int64_t window = 0;
  bool documents = false;
  bool rope = false;
  float softcap = 0;
  int64_t value_dim = 0;
};

constexpr ContextMethod kMethods[] = {ContextMethod::kRing, ContextMethod::kUlysses};
const char* name_of(ContextMethod method) { return method == ContextMethod::kRing ? "ring" : "ulysses"; }

// Documents of one row and longer ones, bounds at the edges of spans of two and four ranks, another cut in every
// sequence; the second sequence is one document.
std::vector<int32_t> document_starts(const Case& c) {
  std::vector<int32_t> starts;
  for (int64_t b = 0; b < c.batch; ++b) {
    int64_t start = 0;
    for (int64_t t = 0; t < c.sequence; ++t) {
      const bool bound = t == 5 || t == 6 || t == c.sequence / 8 || t == c.sequence / 4 - b ||
                         t == c.sequence / 2 + 3 || t == c.sequence * 5 / 8 || t == c.sequence - 1;
      if (bound && b != 1) start = t;
      starts.push_back(static_cast<int32_t>(start));
    }
  }
  return starts;
}

struct Result {
  std::vector<double> o, dqkv;
  std::vector<double> largest;  // score of each head in what this rank computed
};

// The whole sequences, the same on every rank, and attention over all of their rows or those of this rank.
struct ContextBench : OpBench {
  ContextBench(const Case& c, DType dtype, const RuntimeOptions& options = {.threads = 1})
      : OpBench(dtype, options), shape(c) {
    attention_shape = {c.heads,  c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<float>(c.head_dim)),
                       c.window, c.softcap,  c.value_dim};
    const int64_t rows = c.batch * c.sequence;
    qkv = normal("qkv", {rows, attention_shape.qkv_width()}, dtype);
    d_o = normal("d_o", {rows, attention_shape.out_width()}, dtype);
    if (c.rope) {
      RopeOptions rope_options;
      rope_options.head_dim = c.head_dim;
      rope_options.max_positions = c.sequence;
      table = make_rope_table(runtime, rope_options);
    }
  }

  // Rows of `whole` that lie in the spans, sequence after sequence.
  Tensor rows_in(const std::vector<RowSpan>& spans, const Tensor& whole) {
    int64_t count = 0;
    for (const RowSpan& span : spans) count += span.count;
    Tensor result = empty({shape.batch * count, whole.cols()}, whole.dtype());
    int64_t at = 0;
    for (int64_t b = 0; b < shape.batch; ++b)
      for (const RowSpan& span : spans) {
        Tensor to = result.row_range(at, at + span.count);
        const int64_t from = b * shape.sequence + span.first;
        copy(runtime, whole.row_range(from, from + span.count), to);
        at += span.count;
      }
    return result;
  }
  RowInfo row_info(const std::vector<RowSpan>& spans) {
    RowInfo rows;
    rows.batch = shape.batch;
    rows.spans = spans;
    for (const RowSpan& span : spans) rows.sequence += span.count;
    const auto starts = document_starts(shape);
    if (shape.documents) rows.document_start = empty({rows.rows()}, DType::kI32);
    rows.positions = empty({rows.rows()}, DType::kI32);
    int64_t at = 0;
    for (int64_t b = 0; b < shape.batch; ++b)
      for (const RowSpan& span : spans)
        for (int64_t t = span.first; t < span.first + span.count; ++t, ++at) {
          rows.positions.data<int32_t>()[at] = static_cast<int32_t>(t);
          if (shape.documents)
            rows.document_start.data<int32_t>()[at] = starts[static_cast<size_t>(b * shape.sequence + t)];
        }
    return rows;
  }
  // Over the rows in the spans; `cp` null: with plain attention.
  Result run(const std::vector<RowSpan>& spans, const ContextParallel* cp) {
    Tape tape;
    ForwardContext context = forward(&tape);
    context.rows = row_info(spans);
    const Var leaf = tape.leaf(rows_in(spans, qkv));
    Var x = leaf;
    if (shape.rope) x = rope(context, x, shape.heads + shape.kv_heads, table);
    std::vector<float> largest(static_cast<size_t>(shape.heads), -HUGE_VALF);
    const Var o = !cp                                  ? attention(context, x, attention_shape, largest)
                  : cp->method == ContextMethod::kRing ? ring_attention(context, x, attention_shape, *cp, largest)
                                                       : ulysses_attention(context, x, attention_shape, *cp, largest);
    Result result{values_of(o.value), {}, {largest.begin(), largest.end()}};
    BackwardContext back = backward();
    tape.root(o, {rows_in(spans, d_o), nullptr}, back);
    tape.backward(back);
    result.dqkv = values_of(tape.take(leaf).value);
    return result;
  }
  std::vector<RowSpan> spans_here(const ContextParallel& cp) {
    return context_spans(shape.sequence, cp.method, cp.rank(), cp.size());
  }
  // What plain attention over whole sequences gives for this rank's rows.
  Result expected(const ContextParallel& cp) {
    const Result whole = run({{0, shape.sequence}}, nullptr);
    return {values_here(cp, whole.o, d_o.cols()), values_here(cp, whole.dqkv, qkv.cols()), whole.largest};
  }
  std::vector<double> values_here(const ContextParallel& cp, const std::vector<double>& whole, int64_t cols) {
    std::vector<double> here;
    for (int64_t b = 0; b < shape.batch; ++b)
      for (const RowSpan& span : spans_here(cp)) {
        const auto begin = whole.begin() + (b * shape.sequence + span.first) * cols;
        here.insert(here.end(), begin, begin + span.count * cols);
      }
    return here;
  }

  Case shape;
  AttentionShape attention_shape;
  Tensor qkv, d_o;
  RopeTable table;
};

// f16 has three bits more than bf16.
double tolerance(DType dtype, double f32) { return dtype == DType::kF32 ? f32 : dtype == DType::kBF16 ? 2e-2 : 5e-3; }

// Largest difference of an element over the largest element.
double worst_error(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference = std::max(difference, std::isfinite(a[i]) ? std::abs(a[i] - b[i]) : HUGE_VAL);
    largest = std::max(largest, std::abs(b[i]));
  }
  return difference / largest;
}

ContextParallel parallel(ContextMethod method) { return {&test_world().all(), method}; }

void expect_like_one_rank(const Case& c, ContextMethod method, DType dtype,
                          const RuntimeOptions& options = {.threads = 1}) {
  SCOPED_TRACE(fmt::format("{} {} B {} T {} heads {}/{} head_dim {} window {} documents {} softcap {} value_dim {}",
                           name_of(method), deepflow::name_of(dtype), c.batch, c.sequence, c.heads, c.kv_heads,
                           c.head_dim, c.window, c.documents, c.softcap, c.value_dim));
  const ContextParallel cp = parallel(method);
  ContextBench bench(c, dtype, options);
  const Result expected = bench.expected(cp), result = bench.run(bench.spans_here(cp), &cp);
  EXPECT_LT(worst_error(result.o, expected.o), tolerance(dtype, 1e-5));
  EXPECT_LT(worst_error(result.dqkv, expected.dqkv), tolerance(dtype, 1e-5));
  EXPECT_LT(worst_error(max_doubles(*cp.comm, result.largest, "largest scores"), expected.largest), 1e-6);
}

const Case kCases[] = {
    {1, 8, 4, 4, 8},                            // spans of one row
    {1, 200, 4, 2, 64},                         // spans no multiple of anything
    {3, 128, 4, 4, 16},                         // several sequences
    {1, 1200, 4, 1, 20},                        // spans of several blocks, one key head, odd head size
    {2, 520, 8, 4, 32, 40},                     // window shorter than a span
    {1, 520, 4, 2, 32, 300},                    // longer than a span
    {1, 200, 4, 4, 24, 1},                      // every row sees itself
    {1, 520, 4, 2, 32, 0, true},                // documents
    {3, 200, 4, 4, 16, 0, true},                // several sequences, one without bounds
    {3, 520, 4, 1, 36, 90, true},               // documents and window
    {1, 200, 4, 2, 32, 0, false, true},         // positions
    {2, 1200, 8, 2, 64, 0, true, true},         //
    {2, 520, 4, 2, 32, 90, true, false, 1.5f},  // soft cap
    {1, 520, 4, 4, 48, 0, false, true, 0, 32},  // values narrower than keys
    {3, 200, 4, 1, 20, 30, true, false, 0, 6},  //
    {1, 520, 8, 2, 16, 0, true, false, 0, 40},  // and wider
};

TEST(ContextAttention, EqualsAttentionOfOneRank) {
  for (const ContextMethod method : kMethods)
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const Case& c : kCases) expect_like_one_rank(c, method, dtype);
}

TEST(ContextAttention, EveryInstructionSet) {
  for (const testing::IsaAndDtype& on : testing::every_isa_and_dtype()) {
    SCOPED_TRACE(deepflow::name_of(on.isa));
    RuntimeOptions options;
    options.threads = 1;
    options.cpu_isa = on.isa;
    expect_like_one_rank({1, 1200, 4, 2, 64, 0, true}, ContextMethod::kRing, on.dtype, options);
    expect_like_one_rank({2, 200, 4, 1, 20, 30}, ContextMethod::kRing, on.dtype, options);
  }
}

TEST(ContextAttention, FewGroupsAreCutOverThreads) {
  RuntimeOptions options;
  options.threads = 3;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    expect_like_one_rank({1, 1200, 4, 1, 32}, ContextMethod::kRing, dtype, options);
    expect_like_one_rank({1, 1200, 4, 1, 32, 70, true}, ContextMethod::kRing, dtype, options);
    expect_like_one_rank({1, 1200, 4, 1, 32, 70, true}, ContextMethod::kUlysses, dtype, options);
  }
}

TEST(ContextAttention, TwoRunsGiveTheSameBits) {
  for (const ContextMethod method : kMethods)
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const ContextParallel cp = parallel(method);
      ContextBench bench({2, 520, 4, 1, 32, 0, true}, dtype);
      const Result first = bench.run(bench.spans_here(cp), &cp), second = bench.run(bench.spans_here(cp), &cp);
      EXPECT_EQ(first.o, second.o);
      EXPECT_EQ(first.dqkv, second.dqkv);
    }
}

TEST(ContextAttention, HugeScoresStayFinite) {
  for (const ContextMethod method : kMethods) {
    const ContextParallel cp = parallel(method);
    ContextBench bench({1, 400, 4, 4, 16}, DType::kF32);
    scale(bench.runtime, bench.qkv, 100);
    const Result result = bench.run(bench.spans_here(cp), &cp);
    for (const double x : result.o) ASSERT_TRUE(std::isfinite(x));
    for (const double x : result.dqkv) ASSERT_TRUE(std::isfinite(x));
  }
}

TEST(ContextAttention, ScoresFarBelowZeroAreNotLostAmongWhatPadsTheBlocks) {
  for (const ContextMethod method : kMethods)
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const ContextParallel cp = parallel(method);
      ContextBench bench({1, 400, 4, 4, 16}, dtype);
      Tensor q = bench.qkv.column_range(0, 64), k = bench.qkv.column_range(64, 128);
      fill(bench.runtime, q, 30);
      fill(bench.runtime, k, -30);
      const Result expected = bench.expected(cp), result = bench.run(bench.spans_here(cp), &cp);
      EXPECT_LT(worst_error(result.o, expected.o), tolerance(dtype, 1e-5));
      EXPECT_LT(worst_error(result.dqkv, expected.dqkv), tolerance(dtype, 1e-4));
    }
}

TEST(ContextAttention, SendsTheBytesThatTheHeadersState) {
  for (const ContextMethod method : kMethods)
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const Case& c : {Case{2, 128, 8, 2, 16, 0, true}, Case{2, 128, 8, 2, 16, 0, true, false, 0, 10}}) {
        const ContextParallel cp = parallel(method);
        ContextBench bench(c, dtype);
        const int64_t before = cp.comm->bytes().sent;
        bench.run(bench.spans_here(cp), &cp);
        const int64_t n = cp.size(), rows = c.batch * c.sequence / n, e = static_cast<int64_t>(size_of(dtype));
        const int64_t columns = c.head_dim + bench.attention_shape.value_columns();
        const int64_t h = c.heads / n, k = std::max<int64_t>(1, c.kv_heads / n);
        const int64_t ring = (n - 1) * rows * c.kv_heads * columns * (2 * e + 4);
        const int64_t ulysses = (n - 1) * rows * (2 * e * columns * (h + k) + 4);
        EXPECT_EQ(cp.comm->bytes().sent - before, method == ContextMethod::kRing ? ring : ulysses) << name_of(method);
      }
}

TEST(ContextAttention, MemoryGrowsWithTheLengthAndNotWithItsSquare) {
  for (const ContextMethod method : kMethods) {
    const ContextParallel cp = parallel(method);
    int64_t peaks[2];
    for (const int doubled : {0, 1}) {
      ContextBench bench({1, 1024 << doubled, 4, 4, 16}, DType::kBF16);
      const int64_t before = bench.runtime.memory().stats().in_use;
      bench.run(bench.spans_here(cp), &cp);
      peaks[doubled] = bench.runtime.memory().stats().peak - before;
    }
    EXPECT_LT(peaks[1], 5 * peaks[0] / 2);
  }
}

TEST(ContextAttention, ZeroSequencesPass) {
  for (const ContextMethod method : kMethods) {
    const ContextParallel cp = parallel(method);
    ContextBench bench({0, 16, 4, 4, 8}, DType::kF32);
    const Result result = bench.run(bench.spans_here(cp), &cp);
    EXPECT_TRUE(result.o.empty() && result.dqkv.empty());
  }
}

TEST(CheckContextParallel, SaysWhichHeadsCannotBeDealt) {
  const ContextParallel ring = parallel(ContextMethod::kRing), ulysses = parallel(ContextMethod::kUlysses);
  const int64_t n = ring.size();
  EXPECT_NO_THROW(check_context_parallel(ring, 3, 3, 8 * n));
  EXPECT_NO_THROW(check_context_parallel(ulysses, 4 * n, 1, 8 * n));
  EXPECT_NO_THROW(check_context_parallel(ulysses, 4 * n, 2 * n, 8 * n));
  if (n == 1) return;
  EXPECT_THROW(check_context_parallel(ulysses, 4 * n + 1, 4 * n + 1, 8 * n), ConfigError);
  EXPECT_THROW(check_context_parallel(ulysses, 3 * n, 3, 8 * n), ConfigError);
  EXPECT_THROW(check_context_parallel(ring, n, n, 8 * n + 1), ConfigError);
}

}  // namespace
}  // namespace deepflow
