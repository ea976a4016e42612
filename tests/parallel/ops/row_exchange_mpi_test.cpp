#include "parallel/ops/row_exchange.h"
#include "parallel/ops/row_ring.h"
#include "tests/parallel/ops/cut_pack.h"

namespace deepflow::testing {
namespace {

struct RowsBench : OpBench {
  explicit RowsBench(int64_t num_rows, DType dtype = DType::kF32)
      : OpBench(dtype, {.threads = 1}), rows(num_rows), deal{num_rows, test_world().size()} {}
  ForwardContext context(Tape* tape) {
    ForwardContext c = forward(tape);
    c.rows.batch = 1;
    c.rows.sequence = rows;
    return c;
  }
  // Every rank's own summand of [rows, 5], and their sum.
  Tensor summand(int rank) { return normal(fmt::format("of {}", rank), {rows, 5}, compute); }
  Tensor sum() {
    Tensor total = summand(0);
    for (int r = 1; r < tp.size(); ++r) add_into(runtime, total, summand(r));
    return total;
  }
  Tensor own(const Tensor& t) { return cast(deal.part(t, tp.rank()), t.dtype()); }
  int64_t rows;
  TensorParallel tp{&test_world().all(), true, true};
  Deal deal;
};

TEST(Deal, KnowsTheOwnerOfEveryItem) {
  for (const int64_t total : {1, 3, 64, 101, 50257})
    for (const int ranks : {1, 2, 3, 7}) {
      const Deal deal{total, ranks};
      int64_t next = 0;
      for (int r = 0; r < ranks; ++r) {
        EXPECT_EQ(deal.first(r), next);
        EXPECT_EQ(deal.count(r), dealt_rows(total, ranks)[static_cast<size_t>(r)]);
        EXPECT_LE(deal.count(r), deal.most());
        for (; next < deal.first(r + 1); ++next) EXPECT_EQ(deal.owner(next), r);
      }
      EXPECT_EQ(next, total);
    }
}

TEST(RowExchange, GatheredRowsTakeTheSumOfGradients) {
  for (const int64_t rows : {0, 1, 3, 64, 257}) {
    RowsBench bench(rows);
    const Tensor all = bench.normal("x", {rows, 5}, DType::kF32);
    Tape tape;
    ForwardContext forward = bench.context(&tape);
    BackwardContext backward = bench.backward();
    const Var x = tape.leaf(bench.own(all)), y = gather_rows(forward, x, bench.tp);
    EXPECT_EQ(values_of(y.value), values_of(all));
    tape.root(y, {bench.summand(bench.tp.rank()), nullptr}, backward);
    tape.backward(backward);
    const Grad dx = tape.take(x);
    if (dx.pending) dx.pending->wait(*bench.stream);
    EXPECT_LE(error_of(dx.value, bench.own(bench.sum())), 1e-6);
  }
}

TEST(RowExchange, SharedRowsTakeTheSumOfGradients) {
  for (const int64_t rows : {0, 1, 64}) {
    RowsBench bench(rows);
    const Tensor all = bench.normal("x", {rows, 5}, DType::kF32);
    Tape tape;
    ForwardContext forward = bench.context(&tape);
    BackwardContext backward = bench.backward();
    const Var x = tape.leaf(all), y = share_rows(forward, x, bench.tp);
    EXPECT_EQ(values_of(y.value), values_of(all));
    tape.root(y, {bench.summand(bench.tp.rank()), nullptr}, backward);
    tape.backward(backward);
    const Grad dx = tape.take(x);
    if (dx.pending) dx.pending->wait(*bench.stream);
    EXPECT_LE(error_of(dx.value, bench.sum()), 1e-6);
  }
}

TEST(RowExchange, ScatteredRowsAreTheSumAndTakeEveryGradient) {
  for (const int64_t rows : {0, 1, 3, 64, 257}) {
    RowsBench bench(rows);
    const Tensor dy = bench.normal("dy", {rows, 5}, DType::kF32);
    Tape tape;
    ForwardContext forward = bench.context(&tape);
    BackwardContext backward = bench.backward();
    const Var x = tape.leaf(bench.summand(bench.tp.rank())), y = scatter_rows(forward, x, bench.tp);
    EXPECT_LE(error_of(y.value, bench.own(bench.sum())), 1e-6);
    tape.root(y, {bench.own(dy), nullptr}, backward);
    tape.backward(backward);
    const Grad dx = tape.take(x);
    if (dx.pending) dx.pending->wait(*bench.stream);
    EXPECT_EQ(values_of(dx.value), values_of(dy));
  }
}

TEST(RowExchange, SplitRowsGatherTheirGradientsAndJoinedOnesSplitThem) {
  for (const int64_t rows : {0, 1, 3, 64, 257}) {
    RowsBench bench(rows);
    const Tensor all = bench.normal("x", {rows, 5}, DType::kF32), dy = bench.normal("dy", {rows, 5}, DType::kF32);
    Tape tape;
    ForwardContext forward = bench.context(&tape);
    BackwardContext backward = bench.backward();
    const Var x = tape.leaf(all), own = split_rows(forward, x, bench.tp), y = join_rows(forward, own, bench.tp);
    EXPECT_EQ(values_of(own.value), values_of(bench.own(all)));
    EXPECT_EQ(values_of(y.value), values_of(all));
    tape.root(y, {dy, nullptr}, backward);
    tape.backward(backward);
    const Grad dx = tape.take(x);
    if (dx.pending) dx.pending->wait(*bench.stream);
    EXPECT_EQ(values_of(dx.value), values_of(dy));
  }
}

TEST(RowRing, EveryRankSeesTheRowsOfAll) {
  if (test_world().size() == 1) GTEST_SKIP() << "one rank has no ring";
  for (const int64_t rows : {0, 1, 3, 64, 257, 2101})  // the last in parts
    for (const bool collected : {false, true}) {
      RowsBench bench(rows);
      const Tensor all = bench.normal("x", {rows, 5}, DType::kF32);
      const Tensor into = collected ? bench.empty({rows, 5}, DType::kF32) : Tensor();
      GatherRing ring(bench.runtime, *bench.stream, bench.tp, bench.deal, bench.own(all), into, "ring");
      if (rows % 2 == 1) ring.begin();
      for (int step = 0; step < ring.num_steps(); ++step) {
        ring.pass_on(step);
        EXPECT_EQ(values_of(ring.rows(step)), values_of(ring.same_rows(step, all)));
      }
      ring.finish();
      if (collected) {
        EXPECT_EQ(values_of(into), values_of(all));
      }
    }
}

TEST(RowRing, SumsArriveAtTheirOwners) {
  if (test_world().size() == 1) GTEST_SKIP() << "one rank has no ring";
  for (const int64_t rows : {0, 1, 3, 64, 257, 2101})
    for (const bool later : {false, true}) {
      RowsBench bench(rows);
      const Tensor mine = bench.summand(bench.tp.rank());
      const Tensor sum = bench.empty({bench.deal.count(bench.tp.rank()), 5}, DType::kF32);
      WorkPtr last;
      {
        ReduceRing ring(bench.runtime, *bench.stream, bench.tp, bench.deal, sum, "ring");
        for (int step = 0; step < ring.num_steps(); ++step) {
          Tensor summand = ring.summand(step);
          copy(bench.runtime, ring.same_rows(step, mine), summand);
          if (!later || !ring.is_last_round(step)) ring.add(step);
        }
        if (later) last = ring.last_additions();
      }
      if (last) {
        last->wait(*bench.stream);
        last->wait_host();  // adds nothing again
      }
      EXPECT_LE(error_of(sum, bench.own(bench.sum())), 1e-6);
    }
}

}  // namespace
}  // namespace deepflow::testing
