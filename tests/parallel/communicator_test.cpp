#include "parallel/communicator.h"

#include "parallel/collective_plan.h"
#include "parallel/self_communicator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <numeric>
#include <random>

namespace deepflow {
namespace {

constexpr CollectiveLimits kSmall = {
    .piece_bytes = 256, .staging_bytes = 1024, .one_shot_bytes = 128, .message_bytes = 100};

Tensor make(std::vector<float> values) {
  const auto memory = std::make_shared<std::vector<float>>(std::move(values));
  memory->reserve(1);
  return Tensor::wrap(memory->data(), {static_cast<int64_t>(memory->size())}, DType::kF32, {}, memory);
}

std::vector<float> values_of(const Tensor& t) {
  const auto* data = static_cast<const float*>(t.raw());
  return {data, data + t.num_elements()};
}

// Runs the plans of all members in one process: messages meet by pair, in the order of the lists.
class PlanRunner {
 public:
  void run(const std::vector<Plan>& plans) {
    int64_t most = 0;
    for (const Plan& plan : plans) most = std::max(most, plan.num_pieces);
    for (int64_t i = 0; i < most; ++i) {
      std::vector<Piece> pieces;
      for (const Plan& plan : plans) pieces.push_back(i < plan.num_pieces ? plan.piece(i, staging_) : Piece());
      deliver(pieces, &Piece::first);
      for (const Piece& piece : pieces)
        if (piece.middle) piece.middle();
      deliver(pieces, &Piece::second);
    }
  }

 private:
  void deliver(const std::vector<Piece>& pieces, std::vector<Message> Piece::*list) {
    std::map<std::pair<int, int>, std::pair<std::vector<Message>, std::vector<Message>>> pairs;
    for (size_t r = 0; r < pieces.size(); ++r)
      for (const Message& m : pieces[r].*list) {
        const int me = static_cast<int>(r);
        ASSERT_NE(m.peer, me);
        if (m.send)
          pairs[{me, m.peer}].first.push_back(m);
        else
          pairs[{m.peer, me}].second.push_back(m);
      }
    for (const auto& entry : pairs) {
      const auto& sends = entry.second.first;
      const auto& receives = entry.second.second;
      ASSERT_EQ(sends.size(), receives.size());
      for (size_t i = 0; i < sends.size(); ++i) {
        ASSERT_EQ(sends[i].bytes, receives[i].bytes);
        if (sends[i].bytes > 0) std::memcpy(receives[i].data, sends[i].data, static_cast<size_t>(sends[i].bytes));
      }
    }
  }
  StagingPool staging_;
};

std::vector<float> contribution(int rank, int64_t n) {
  std::mt19937 random(static_cast<uint32_t>(rank) + 5);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i)
    values.push_back(std::ldexp(static_cast<float>(random()), static_cast<int>(random() % 20) - 30));
  return values;
}

std::vector<float> sum_in_order(int size, int64_t n) {
  std::vector<float> sum = contribution(0, n);
  for (int r = 1; r < size; ++r) {
    const auto x = contribution(r, n);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += x[i];
  }
  return sum;
}

TEST(CollectivePlan, AllReduceSumsInRankOrderForAnySize) {
  for (const int size : {1, 2, 3, 5, 8})
    for (const int64_t n : {0, 1, 7, 16, 33, 500, 12'345}) {
      std::vector<Tensor> tensors;
      std::vector<Plan> plans;
      for (int r = 0; r < size; ++r) {
        tensors.push_back(make(contribution(r, n)));
        plans.push_back(plan_all_reduce({r, size, kSmall}, tensors.back(), ReduceOp::kSum));
      }
      PlanRunner().run(plans);
      for (const Tensor& t : tensors) EXPECT_EQ(values_of(t), sum_in_order(size, n)) << size << " ranks, " << n;
    }
}

TEST(CollectivePlan, ReduceScatterAndAllGatherMakeAnAllReduce) {
  std::mt19937 random(2);
  for (const int size : {1, 2, 3, 5}) {
    std::vector<int64_t> counts;
    for (int r = 0; r < size; ++r) counts.push_back(r == 1 ? 0 : static_cast<int64_t>(random() % 900));
    const int64_t n = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    std::vector<Tensor> tensors, parts;
    std::vector<Plan> scatter, gather;
    int64_t begin = 0;
    for (int r = 0; r < size; ++r) {
      tensors.push_back(make(contribution(r, n)));
      const int64_t end = begin + counts[static_cast<size_t>(r)];
      parts.push_back(tensors.back().flat_range(begin, end));
      begin = end;
      scatter.push_back(plan_reduce_scatter({r, size, kSmall}, tensors.back(), parts.back(), counts));
      gather.push_back(plan_all_gather({r, size, kSmall}, parts.back(), tensors.back(), counts));
    }
    PlanRunner().run(scatter);
    PlanRunner().run(gather);
    for (const Tensor& t : tensors) EXPECT_EQ(values_of(t), sum_in_order(size, n)) << size << " ranks";
  }
}

TEST(CollectivePlan, BroadcastFromEveryRoot) {
  for (const int size : {1, 2, 3, 5})
    for (int root = 0; root < size; ++root)
      for (const int64_t n : {0, 3, 2000}) {
        std::vector<Tensor> tensors;
        std::vector<Plan> plans;
        for (int r = 0; r < size; ++r) {
          tensors.push_back(make(contribution(r, n)));
          plans.push_back(plan_broadcast({r, size, kSmall}, tensors.back(), root));
        }
        PlanRunner().run(plans);
        for (const Tensor& t : tensors) EXPECT_EQ(values_of(t), contribution(root, n));
      }
}

TEST(CollectivePlan, AllToAllWithUnevenBlocks) {
  for (const int size : {1, 3, 4}) {
    std::mt19937 random(4);
    std::vector<std::vector<int64_t>> counts;
    for (int r = 0; r < size; ++r) {
      counts.emplace_back();
      for (int k = 0; k < size; ++k)
        counts.back().push_back(static_cast<int64_t>(random() % 3 == 0 ? 0 : random() % 200));
    }
    std::vector<Tensor> ins, outs;
    std::vector<Plan> plans;
    for (size_t r = 0; r < counts.size(); ++r) {
      std::vector<float> sent;
      std::vector<int64_t> recv;
      int64_t total = 0;
      for (size_t k = 0; k < counts.size(); ++k) {
        sent.insert(sent.end(), static_cast<size_t>(counts[r][k]), static_cast<float>(10 * r + k));
        recv.push_back(counts[k][r]);
        total += recv.back();
      }
      ins.push_back(make(sent));
      outs.push_back(make(std::vector<float>(static_cast<size_t>(total), -1)));
      plans.push_back(plan_all_to_all({static_cast<int>(r), size, kSmall}, ins.back(), counts[r], outs.back(), recv));
    }
    PlanRunner().run(plans);
    for (size_t r = 0; r < counts.size(); ++r) {
      std::vector<float> expected;
      for (size_t k = 0; k < counts.size(); ++k)
        expected.insert(expected.end(), static_cast<size_t>(counts[k][r]), static_cast<float>(10 * k + r));
      EXPECT_EQ(values_of(outs[r]), expected);
    }
  }
}

TEST(Reduction, RoundsBf16Once) {
  const std::vector<BF16> a(3, to_bf16(1.0f)), b(3, to_bf16(0x1p-8f)), c(3, to_bf16(0x1p-8f));
  std::vector<BF16> out(3);
  const std::vector<const void*> sources = {a.data(), b.data(), c.data()};
  reduce_in_order(sources, out.data(), 3, DType::kBF16, ReduceOp::kSum);
  for (const BF16 x : out) EXPECT_EQ(to_float(x), 1.0f + 0x1p-7f);  // in bf16 each addend alone would be lost
}

TEST(Reduction, SumsF16InF32) {
  const std::vector<F16> a(3, to_f16(60000.0f)), b(3, to_f16(30016.0f)), c(3, to_f16(-40000.0f));
  std::vector<F16> out(3);
  reduce_in_order(std::vector<const void*>{a.data(), b.data(), c.data()}, out.data(), 3, DType::kF16, ReduceOp::kSum);
  for (const F16 x : out) EXPECT_EQ(to_float(x), 50016.0f);  // a + b alone is beyond f16
  reduce_in_order(std::vector<const void*>{a.data(), b.data()}, out.data(), 3, DType::kF16, ReduceOp::kSum);
  for (const F16 x : out) EXPECT_EQ(to_float(x), INFINITY);
}

TEST(Reduction, MayOverwriteASource) {
  std::vector<float> a(5000, 1), b(5000, 2);
  const std::vector<const void*> sources = {a.data(), b.data()};
  reduce_in_order(sources, b.data(), 5000, DType::kF32, ReduceOp::kSum);
  EXPECT_EQ(b, std::vector<float>(5000, 3));
}

TEST(SelfCommunicator, IsDoneAtOnce) {
  const auto comm = make_self_communicator("self");
  const Tensor a = make({1, 2, 3}), b = make({0, 0, 0});
  const std::vector<int64_t> counts = {3};
  comm->all_reduce(a, ReduceOp::kSum, "sum")->wait_host();
  comm->reduce_scatter(a, b, counts, "scatter")->wait_host();
  EXPECT_EQ(values_of(b), (std::vector<float>{1, 2, 3}));
  const Tensor c = make({0, 0, 0});
  comm->batch(std::vector<PointToPoint>{{0, false, c}, {0, true, b}}, "self")->wait_host();
  EXPECT_EQ(values_of(c), values_of(b));
  EXPECT_EQ(comm->duplicate("metrics")->name(), "metrics");
  EXPECT_EQ(sum_doubles(*comm, std::vector<double>{2.5}, "x")[0], 2.5);
}

}  // namespace
}  // namespace deepflow
