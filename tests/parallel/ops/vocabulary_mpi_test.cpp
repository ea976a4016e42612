#include "core/error.h"
#include "kernels/ops/embedding.h"
#include "parallel/ops/vocabulary_embedding.h"
#include "parallel/ops/vocabulary_head_loss.h"
#include "tests/parallel/ops/cut_pack.h"

namespace deepflow::testing {
namespace {

constexpr int64_t kWidth = 24, kPlaces = 40;

// The same problem for the plain ops, on whole tables, and for this rank's part of them.
struct Problem {
  Problem(const TensorLayout& how, DType dtype, int64_t num_rows, int64_t vocabulary)
      : layout(how), rows(num_rows), whole(dtype, {.threads = 1}), bench(dtype, {.threads = 1}) {
    whole_table = &whole.store.add_normal("table", {vocabulary, kWidth}, Role::kHead, 0.5f);
    whole_places = &whole.store.add_normal("places", {kPlaces, kWidth}, Role::kMatrix, 0.5f);
    const Tensor& values = whole.store.master(*whole_table);
    table = &add_part(bench, "table", values.row_range(0, vocabulary), 0, Role::kHead, rank, ranks);
    places = &bench.store.add_normal("places", {kPlaces, kWidth}, Role::kMatrix, 0.5f);
    tokens = bench.empty({rows}, DType::kI32);
    labels = bench.empty({rows}, DType::kI32);
    weights = bench.empty({rows}, DType::kF32);
    positions = bench.empty({rows}, DType::kI32);
    for (int64_t r = 0; r < rows; ++r) {
      tokens.data<int32_t>()[r] = static_cast<int32_t>(r * r * 7 % vocabulary);
      positions.data<int32_t>()[r] = static_cast<int32_t>(r % kPlaces);
      labels.data<int32_t>()[r] = static_cast<int32_t>(r % 7 == 3 ? -1 : (r * 37) % vocabulary);
      weights.data<float>()[r] = r % 11 == 5 ? 0.0f : 0.01f * static_cast<float>(1 + r % 3);
    }
  }
  ForwardContext forward(OpBench& of, Tape* tape) const {
    ForwardContext context = of.forward(tape);
    context.rows.batch = 1;
    context.rows.sequence = rows;
    context.rows.positions = positions;
    return context;
  }
  Tensor own_rows(const Tensor& t) const { return layout.sequence ? rows_of_rank(t, rank, ranks) : t; }
  Tensor copy_of(const Tensor& t) { return bench.cast(t, t.dtype()); }

  TensorLayout layout;
  int64_t rows;
  float softcap = 0;
  int rank = test_world().rank(), ranks = test_world().size();
  OpBench whole, bench;
  Pack *whole_table, *whole_places, *table, *places;
  Tensor tokens, labels, weights, positions;
  TensorParallel tp = tensor_parallel(layout);
};

struct EmbeddingResult {
  std::vector<double> x, table, places;
};

EmbeddingResult plain_embedding(Problem& p, const Tensor& dx) {
  Tape tape;
  ForwardContext forward = p.forward(p.whole, &tape);
  BackwardContext backward = p.whole.backward();
  const Var x = embedding(forward, p.tokens, *p.whole_table, p.whole_places);
  tape.root(x, {dx, nullptr}, backward);
  tape.backward(backward);
  const Tensor table = p.whole.store.gradient_value(*p.whole_table).row_range(0, p.whole_table->rows);
  return {values_of(p.own_rows(x.value)), values_of(rows_of_rank(table, p.rank, p.ranks)),
          values_of(p.whole.store.gradient_value(*p.whole_places))};
}

EmbeddingResult cut_embedding(Problem& p, const Tensor& dx) {
  Tape tape;
  ForwardContext forward = p.forward(p.bench, &tape);
  BackwardContext backward = p.bench.backward();
  const Var x = vocabulary_embedding(forward, p.tokens, *p.table, p.places, p.tp);
  tape.root(x, {p.copy_of(p.own_rows(dx)), nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(p.bench.store.contributions(*p.table), 1);
  EXPECT_EQ(p.bench.store.contributions(*p.places), 1);
  EXPECT_EQ(p.bench.store.acquired(*p.table), 0);
  const Tensor &table = p.bench.store.gradient_value(*p.table), padding = table.row_range(p.table->rows, table.rows());
  EXPECT_EQ(values_of(padding), std::vector<double>(static_cast<size_t>(padding.num_elements()), 0.0));
  return {values_of(x.value), values_of(table.row_range(0, p.table->rows)),
          values_of(p.bench.store.gradient_value(*p.places))};
}

TEST(VocabularyEmbedding, EqualsThePlainOpBitForBit) {
  for (const TensorLayout& layout : tensor_layouts())
    for (const int64_t rows : {0, 1, 3, 64, 257})
      for (const int64_t vocabulary : {101, 130}) {
        SCOPED_TRACE(describe(layout, DType::kF32, rows));
        Problem p(layout, DType::kF32, rows, vocabulary);
        const Tensor dx = p.bench.normal("dx", {rows, kWidth}, DType::kF32);
        EmbeddingResult expected = plain_embedding(p, p.copy_of(dx)), got = cut_embedding(p, dx);
        EXPECT_EQ(got.x, expected.x);
        EXPECT_EQ(got.table, expected.table);
        if (!layout.sequence)
          EXPECT_EQ(got.places, expected.places);
        else
          EXPECT_LE(relative_error(summed(got.places), expected.places), 1e-6);
      }
}

TEST(VocabularyEmbedding, TokensOutsideTheWholeVocabularyAreRefusedByAll) {
  for (const TensorLayout& layout : tensor_layouts())
    for (const int32_t token : {-1, 101}) {
      Problem p(layout, DType::kF32, 9, 101);
      p.tokens.data<int32_t>()[4] = token;
      ForwardContext context = p.forward(p.bench, nullptr);
      EXPECT_THROW(vocabulary_embedding(context, p.tokens, *p.table, nullptr, p.tp), DataError);
    }
}

struct LossCase {
  TensorLayout layout;
  DType dtype;
  int64_t rows, vocabulary;
  float softcap = 0;
};

std::vector<LossCase> loss_cases(DType dtype) {
  std::vector<LossCase> cases;
  for (const TensorLayout& layout : tensor_layouts())
    for (const int64_t rows : {0, 1, 3, 64, 257, 1100})  // the last ones in several chunks
      for (const int64_t vocabulary : {101, 130}) cases.push_back({layout, dtype, rows, vocabulary});
  for (const TensorLayout& layout : tensor_layouts()) cases.push_back({layout, dtype, 600, 101, 2.0f});
  return cases;
}

struct LossOutcome {
  double loss = 0;
  std::vector<double> nll, dx, dw;
};

LossOutcome plain_loss(Problem& p, const Tensor& values, float seed) {
  Tape tape;
  ForwardContext forward = p.forward(p.whole, &tape);
  BackwardContext backward = p.whole.backward();
  const Var x = tape.leaf(values);
  const LossResult result = head_loss(forward, x, *p.whole_table, p.labels, p.weights, p.softcap);
  Tensor s = p.whole.empty({1}, DType::kF32);
  s.data<float>()[0] = seed;
  tape.root(result.loss, {s, nullptr}, backward);
  tape.backward(backward);
  const Tensor dw = p.whole.store.gradient_value(*p.whole_table).row_range(0, p.whole_table->rows);
  return {values_of(result.loss.value)[0], values_of(result.nll), values_of(p.own_rows(tape.take(x).value)),
          values_of(rows_of_rank(dw, p.rank, p.ranks))};
}

LossOutcome cut_loss(Problem& p, const Tensor& values, float seed) {
  Tape tape;
  ForwardContext forward = p.forward(p.bench, &tape);
  BackwardContext backward = p.bench.backward();
  const Var x = tape.leaf(p.copy_of(p.own_rows(values)));
  const LossResult result = vocabulary_head_loss(forward, x, *p.table, p.labels, p.weights, p.tp, p.softcap);
  Tensor s = p.bench.empty({1}, DType::kF32);
  s.data<float>()[0] = seed;
  tape.root(result.loss, {s, nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(p.bench.store.contributions(*p.table), 1);
  EXPECT_EQ(p.bench.store.acquired(*p.table), 0);
  const Grad dx = tape.take(x);
  if (dx.pending) dx.pending->wait(*p.bench.stream);
  const Tensor dw = p.copy_of(p.bench.store.gradient_value(*p.table));
  const Tensor padding = dw.row_range(p.table->rows, dw.rows());
  EXPECT_EQ(values_of(padding), std::vector<double>(static_cast<size_t>(padding.num_elements()), 0.0));
  p.bench.store.begin_step();
  return {values_of(result.loss.value)[0], values_of(result.nll), values_of(dx.value),
          values_of(dw.row_range(0, p.table->rows))};
}

void expect_loss_of_the_whole(const LossCase& c, double of_nll, double of_gradients) {
  SCOPED_TRACE(describe(c.layout, c.dtype, c.rows));
  Problem p(c.layout, c.dtype, c.rows, c.vocabulary);
  p.softcap = c.softcap;
  const Tensor x = p.bench.normal("x", {c.rows, kWidth}, c.dtype);
  const LossOutcome expected = plain_loss(p, x, 0.5f), got = cut_loss(p, x, 0.5f);
  EXPECT_NEAR(got.loss, expected.loss, of_nll * expected.loss);
  EXPECT_LE(relative_error(got.nll, expected.nll), of_nll);
  EXPECT_LE(relative_error(got.dx, expected.dx), of_gradients);
  EXPECT_LE(relative_error(got.dw, expected.dw), of_gradients);
  const std::vector<double> one[] = {{got.loss}};
  EXPECT_EQ(max_doubles(test_world().all(), one[0], "loss")[0], got.loss) << "another rank has another loss";
  const LossOutcome again = cut_loss(p, x, 0.5f);
  EXPECT_EQ(again.loss, got.loss);
  EXPECT_EQ(again.nll, got.nll);
  EXPECT_EQ(again.dx, got.dx);
  EXPECT_EQ(again.dw, got.dw);
}

TEST(VocabularyHeadLoss, F32EqualsThePlainOpAndItselfAgain) {
  for (const LossCase& c : loss_cases(DType::kF32)) expect_loss_of_the_whole(c, 2e-6, 1e-5);
}

TEST(VocabularyHeadLoss, Bf16EqualsThePlainOpUpToRoundingAndItselfAgain) {
  for (const LossCase& c : loss_cases(DType::kBF16)) expect_loss_of_the_whole(c, 2e-3, 0.02);
}

TEST(VocabularyHeadLoss, AllRowsMaskedGiveZeroLossAndZeroGradients) {
  for (const TensorLayout& layout : tensor_layouts())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Problem p(layout, dtype, 40, 101);
      std::fill_n(p.labels.data<int32_t>(), 40, -1);
      const LossOutcome got = cut_loss(p, p.bench.normal("x", {40, kWidth}, dtype), 1);
      EXPECT_EQ(got.loss, 0);
      for (const double g : got.dx) EXPECT_EQ(g, 0);
      for (const double g : got.dw) EXPECT_EQ(g, 0);
    }
}

TEST(VocabularyHeadLoss, ALogitThatIsNotFiniteOnOneRankMakesTheLossSoOnAll) {
  for (const TensorLayout& layout : tensor_layouts())
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const float bad : {std::nanf(""), INFINITY})
        for (int sick = 0; sick < test_world().size(); ++sick) {
          Problem p(layout, dtype, 10, 101);
          if (p.rank == sick) p.bench.store.master(*p.table).data<float>()[3] = bad;
          ForwardContext context = p.forward(p.bench, nullptr);
          const Tensor x = p.bench.normal("x", {10, kWidth}, dtype);
          for (int64_t r = 0; r < 10; ++r)  // so that infinity comes out as itself
            if (dtype == DType::kF32) x.data<float>()[r * kWidth + 3] = 1;
          const LossResult result =
              vocabulary_head_loss(context, {p.copy_of(p.own_rows(x))}, *p.table, p.labels, p.weights, p.tp);
          EXPECT_FALSE(std::isfinite(values_of(result.loss.value)[0])) << p.rank;
        }
}

TEST(VocabularyHeadLoss, LabelsOutsideTheWholeVocabularyAreRefusedByAll) {
  for (const int32_t label : {-2, 101}) {
    Problem p({false, true}, DType::kF32, 9, 101);
    p.labels.data<int32_t>()[4] = label;
    ForwardContext context = p.forward(p.bench, nullptr);
    const Var x{p.bench.normal("x", {9, kWidth}, DType::kF32)};
    EXPECT_THROW(vocabulary_head_loss(context, x, *p.table, p.labels, p.weights, p.tp), DataError);
  }
}

TEST(VocabularyHeadLogits, AreWholeOnEveryRank) {
  for (const LossCase& c : loss_cases(DType::kBF16)) {
    Problem p(c.layout, c.dtype, c.rows, c.vocabulary);
    ForwardContext context = p.forward(p.bench, nullptr), plain = p.forward(p.whole, nullptr);
    const Tensor x = p.bench.normal("x", {c.rows, kWidth}, c.dtype);
    const Tensor got = vocabulary_head_logits(context, p.copy_of(p.own_rows(x)), *p.table, p.tp, c.softcap);
    ASSERT_EQ(got.cols(), c.vocabulary);
    EXPECT_LE(error_of(got, head_logits(plain, x, *p.whole_table, c.softcap)), 1e-6);
  }
}

}  // namespace
}  // namespace deepflow::testing
