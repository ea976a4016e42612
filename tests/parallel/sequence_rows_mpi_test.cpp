#include "parallel/mesh.h"
#include "parallel/sequence_rows.h"
#include "tests/kernels/test_store.h"
#include "tests/parallel/mpi_test.h"

#include <gtest/gtest.h>

namespace deepflow::testing {
namespace {

struct SequenceBench : OpBench {
  SequenceBench(int cp_ranks, ContextMethod method)
      : OpBench(DType::kF32, {.threads = 1}),
        mesh(test_world().all(), layout_of(options(cp_ranks), test_world().size())) {
    cp = {&mesh.along("cp"), method};
    tp = {&mesh.along("tp"), true, true};
    ranks = {&test_world().all(), &cp, &tp};
  }
  static ParallelOptions options(int cp_ranks) {
    ParallelOptions o;
    o.cp = cp_ranks;
    o.tp = test_world().size() / cp_ranks;
    return o;
  }
  Mesh mesh;
  ContextParallel cp;
  TensorParallel tp;
  SequenceRanks ranks;
};

TEST(SequenceRows, AreWholeAgainOnEveryRank) {
  const int n = test_world().size();
  for (int cp = 1; cp <= n; cp *= 2)
    for (const ContextMethod method : {ContextMethod::kRing, ContextMethod::kUlysses})
      for (const int64_t pieces : {1, 3}) {
        SequenceBench bench(cp, method);
        ForwardContext context = bench.forward(nullptr);
        context.rows.batch = 2;
        context.rows.sequence = 2 * pieces;  // on each rank
        const int64_t whole = whole_sequence(context.rows, bench.ranks);
        EXPECT_EQ(whole, 2 * pieces * cp);
        // Rows that say which they are.
        const std::vector<int64_t> mine = whole_rows(context.rows, bench.ranks, test_world().rank());
        Tensor own = bench.empty({static_cast<int64_t>(mine.size()), 2}, DType::kI32);
        for (size_t i = 0; i < mine.size(); ++i)
          for (size_t c = 0; c < 2; ++c)
            own.data<int32_t>()[2 * i + c] = static_cast<int32_t>(10 * mine[i] + static_cast<int64_t>(c));
        const Tensor all = gather_whole_rows(context, own, bench.ranks, "rows");
        ASSERT_EQ(all.rows(), 2 * whole);
        for (int64_t i = 0; i < all.num_elements(); ++i)
          ASSERT_EQ(all.data<int32_t>()[i], 10 * (i / 2) + i % 2) << "cp " << cp;
      }
}

}  // namespace
}  // namespace deepflow::testing
