#include "parallel/gathered_masters.h"

#include "kernels/ops/elementwise.h"
#include "parallel/self_communicator.h"
#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

namespace deepflow {
namespace {

using namespace testing;

struct Log {
  std::vector<int64_t> gathered;  // elements, which tell the buckets apart
  std::vector<DType> dtypes;
  int waited = 0;
};

// The first of two ranks; the other one has nothing but sevens.
class HalfCommunicator final : public Communicator {
 public:
  explicit HalfCommunicator(Log& log) : log_(log) {}
  const std::string& name() const override { return self_->name(); }
  int rank() const override { return 0; }
  int size() const override { return 2; }
  WorkPtr all_gather(Tensor in, Tensor out, Counts counts, std::string_view) override {
    EXPECT_EQ(in.num_elements(), counts[0]);
    log_.gathered.push_back(out.num_elements());
    log_.dtypes.push_back(out.dtype());
    return std::make_shared<Gather>(log_, in, out);
  }
  WorkPtr all_reduce(Tensor t, ReduceOp op, std::string_view n) override { return self_->all_reduce(t, op, n); }
  WorkPtr reduce_scatter(Tensor in, Tensor out, Counts c, std::string_view n) override {
    return self_->reduce_scatter(in, out, c, n);
  }
  WorkPtr all_to_all(Tensor in, Counts s, Tensor out, Counts r, std::string_view n) override {
    return self_->all_to_all(in, s, out, r, n);
  }
  WorkPtr batch(std::span<const PointToPoint> m, std::string_view n) override { return self_->batch(m, n); }
  WorkPtr broadcast(Tensor t, int root, std::string_view n) override { return self_->broadcast(t, root, n); }
  WorkPtr barrier(std::string_view n) override { return self_->barrier(n); }
  std::unique_ptr<Communicator> duplicate(std::string_view n) override { return self_->duplicate(n); }
  std::unique_ptr<Communicator> split(int c, int k, std::string_view n) override { return self_->split(c, k, n); }
  CommBytes bytes() const override { return {}; }

 private:
  // Nothing is there before it has been waited for.
  struct Gather final : Work {
    Log& log;
    Tensor in, out;
    Gather(Log& l, Tensor i, Tensor o) : log(l), in(std::move(i)), out(std::move(o)) {}
    void wait(Stream&) override { wait_host(); }
    void wait_host() override {
      ++log.waited;
      Runtime runtime{{.threads = 1}};
      fill(runtime, out, 7);
      std::memcpy(out.raw(), in.raw(), in.num_bytes());
    }
  };
  Log& log_;
  std::unique_ptr<Communicator> self_ = make_self_communicator("half");
};

// Four buckets of 64, 128, 192 and 256 elements, of which this rank has the first half.
struct Fixture {
  Runtime runtime{{.threads = 1}};
  std::unique_ptr<Stream> stream = make_cpu_stream();
  ParameterRegistry registry;
  std::vector<Bucket> buckets;
  std::unique_ptr<ShardMap> shards;
  Log log;
  std::vector<int> given_up;
  std::unique_ptr<GatheredMasters> masters;

  explicit Fixture(DType compute = DType::kF32) {
    for (int i = 4; i > 0; --i) registry.add(parameter(fmt::format("p{}", i), {8 * i, 8}));
    registry.freeze({});
    buckets = make_buckets(registry, 64);
    shards = std::make_unique<ShardMap>(buckets, 2, UpdateUnit::kRow);
    masters = std::make_unique<GatheredMasters>(
        runtime, buckets, *shards, PerDomain<std::shared_ptr<Communicator>>(std::make_shared<HalfCommunicator>(log)),
        compute, [this](const Bucket& b) { given_up.push_back(b.id); });
    for (int b = 0; b < 4; ++b) fill(runtime, masters->shard(b), 1.0f + static_cast<float>(b) + 0x1p-20f);
  }
  Tensor use(int bucket, GatheredMasters::Read read = GatheredMasters::Read::kExact) {
    return masters->use(bucket, read, *stream);
  }
  void step(const std::vector<int>& order, GatheredMasters::Read read = GatheredMasters::Read::kExact) {
    log = {};
    masters->begin_step(1);
    for (const int b : order) {
      const Tensor t = use(b, read);
      EXPECT_EQ(t.num_elements(), 64 * (b + 1));
      if (read == GatheredMasters::Read::kExact) {
        EXPECT_EQ(t.data<float>()[0], 1.0f + static_cast<float>(b) + 0x1p-20f);
        EXPECT_EQ(t.data<float>()[t.num_elements() - 1], 7);
      }
    }
    masters->end_step();
    EXPECT_EQ(log.waited, static_cast<int>(log.gathered.size()));
  }
  std::vector<int64_t> gathered() const {  // buckets
    std::vector<int64_t> ids;
    for (const int64_t n : log.gathered) ids.push_back(n / 64 - 1);
    return ids;
  }
};

using Ids = std::vector<int64_t>;

TEST(GatheredMasters, AreGatheredOnDemandInTheFirstStepAndAheadInTheNext) {
  Fixture f;
  const std::vector<int> order = {3, 3, 2, 1, 0, 0, 1, 2, 3};
  f.step(order);
  EXPECT_EQ(f.gathered(), (Ids{3, 2, 1, 0, 2, 3}));  // the one before stays
  f.log = {};
  f.masters->begin_step(1);
  f.use(3);
  EXPECT_EQ(f.gathered(), (Ids{3, 2, 1}));
  EXPECT_EQ(f.log.waited, 1);
  f.use(2);
  EXPECT_EQ(f.gathered(), (Ids{3, 2, 1, 0}));
  EXPECT_EQ(f.log.waited, 2);
  for (const int b : {1, 0, 1, 2, 3}) f.use(b);
  f.masters->end_step();
  EXPECT_EQ(f.gathered(), (Ids{3, 2, 1, 0, 2, 3}));  // 1 was both used and coming
}

TEST(GatheredMasters, OfTheNextStepMayBeGatheredBeforeItBegins) {
  Fixture f;
  const std::vector<int> order = {3, 2, 1, 0};
  f.step(order);
  f.log = {};
  f.masters->written();
  f.masters->gather_ahead();
  EXPECT_EQ(f.gathered(), (Ids{3, 2}));
  f.masters->begin_step(1);
  for (const int b : order) f.use(b);
  f.masters->end_step();
  EXPECT_EQ(f.gathered(), (Ids{3, 2, 1, 0}));
}

TEST(GatheredMasters, FollowANewOrderWhereAStepStraysFromTheOld) {
  Fixture f;
  f.step({3, 2, 1, 0});
  f.step({3, 1, 0, 2});
  EXPECT_EQ(f.gathered(), (Ids{3, 2, 1, 0, 2}));  // 2 came for nothing
  f.step({3, 1, 0, 2});
  EXPECT_EQ(f.gathered(), (Ids{3, 1, 0, 2}));
  f.step({3});  // ends early
  f.step({3});
  EXPECT_EQ(f.gathered(), Ids{3});
}

TEST(GatheredMasters, HoldThreeBucketsAtMost) {
  Fixture f;
  const std::vector<int> order = {3, 2, 1, 0, 1, 2, 3, 0};
  f.step(order);
  const int64_t before = f.runtime.memory().stats().in_use;
  f.masters->begin_step(1);
  for (const int b : order) {
    f.use(b);
    EXPECT_LE(f.runtime.memory().stats().in_use - before, 4 * 64 * (4 + 3 + 2));
  }
  f.masters->end_step();
  EXPECT_EQ(f.runtime.memory().stats().in_use, before);
  EXPECT_EQ(std::count(f.given_up.begin(), f.given_up.end(), 3), 4);  // twice a step
}

TEST(GatheredMasters, WaitForGathersBeforeShardsAreWritten) {
  Fixture f;
  f.step({3, 2, 1, 0});
  f.log = {};
  f.masters->gather_ahead();
  EXPECT_EQ(f.log.waited, 0);
  f.masters->wait();
  EXPECT_EQ(f.log.waited, 2);
}

TEST(GatheredMasters, TravelInTheComputeDtypeUnlessAnybodyNeedsMore) {
  using Read = GatheredMasters::Read;
  Fixture f(DType::kBF16);
  f.step({3, 2}, Read::kRounded);
  EXPECT_EQ(f.log.dtypes, (std::vector<DType>{DType::kBF16, DType::kBF16}));
  f.log = {};
  const Tensor rounded = f.use(1, Read::kRounded);
  EXPECT_EQ(to_float(rounded.data<BF16>()[0]), 2.0f);
  const Tensor exact = f.use(1, Read::kExact);  // between steps: no matter for the next ones
  EXPECT_EQ(exact.data<float>()[0], 2.0f + 0x1p-20f);
  EXPECT_EQ(f.log.dtypes, (std::vector<DType>{DType::kBF16, DType::kF32}));
  f.masters->written();
  f.log = {};
  f.masters->begin_step(2);
  f.use(1, Read::kRounded);
  f.use(1, Read::kExact);
  f.masters->end_step();
  f.masters->begin_step(2);
  f.use(1, Read::kRounded);
  f.masters->end_step();
  EXPECT_EQ(f.log.dtypes, (std::vector<DType>{DType::kBF16, DType::kF32, DType::kF32}));
}

}  // namespace
}  // namespace deepflow
