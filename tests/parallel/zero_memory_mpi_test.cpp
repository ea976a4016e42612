#include "tests/parallel/mpi_test.h"
#include "tests/parallel/toy_training.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

using namespace testing;

struct Sizes {  // bytes on this rank
  int64_t shard = 0, largest_bucket = 0, all = 0;
};

Sizes sizes_of(ToyTraining& toy) {
  Sizes s;
  for (const Bucket& bucket : toy.store->buckets()) {
    s.all += 4 * bucket.num_elements;
    s.largest_bucket = std::max(s.largest_bucket, 4 * bucket.num_elements);
    const ShardMap& shards = toy.store->shards();
    const int rank = shards.num_ranks() > 1 ? toy.domains->shard().rank() : 0;
    s.shard += 4 * (shards.end(bucket.id, rank) - shards.begin(bucket.id, rank));
  }
  return s;
}

// What the allocator adds by rounding.
int64_t slack(ToyTraining& toy) { return 256 * static_cast<int64_t>(toy.store->buckets().size()); }

TEST(ZeroMemory, OfMastersIsTheShardFromLevel3On) {
  const int n = test_world().size();
  for (int zero = 0; zero <= 3; ++zero) {
    ToyTraining toy(test_world().all(), {.ds = n, .zero = zero, .optimizer = "sgd"});
    const Sizes s = sizes_of(toy);
    const int64_t momentum = zero > 0 && n > 1 ? s.shard : s.all, masters = zero == 3 && n > 1 ? s.shard : s.all;
    EXPECT_LE(toy.runtime.memory().stats().in_use, masters + momentum + 64 * 1024) << zero;
    EXPECT_GE(toy.runtime.memory().stats().in_use, (masters + momentum) * 9 / 10) << zero;
    if (n > 1 && zero > 0) {
      EXPECT_LE(s.shard, s.all / n + s.all / 10);
    }
  }
}

TEST(ZeroMemory, OfGradientsIsTheShardAndAFewBucketsFromLevel2On) {
  const int n = test_world().size();
  if (n == 1) return;
  for (int zero = 1; zero <= 2; ++zero) {
    ToyTraining toy(test_world().all(), {.ds = n, .zero = zero});
    const Sizes s = sizes_of(toy);
    ASSERT_GT(s.all, 7 * s.largest_bucket);
    toy.step(1);  // forms are there
    toy.store->begin_step(1, toy.exchange.get());
    const int64_t before = toy.runtime.memory().stats().in_use;
    int64_t most = 0;
    toy.step(2, [&] { most = std::max(most, toy.runtime.memory().stats().in_use - before); });
    const int64_t after = toy.runtime.memory().stats().in_use - before;
    if (zero == 1) {
      EXPECT_GE(most, s.all);
      EXPECT_GE(after, s.all);
    } else {
      EXPECT_LE(most, s.shard + 4 * s.largest_bucket + slack(toy));  // one that fills, two that travel, the tied one
      EXPECT_LE(after, s.shard + slack(toy));
      EXPECT_GE(after, s.shard);
      EXPECT_LT(most, s.all);
    }
  }
}

TEST(ZeroMemory, OfLevel3IsShardsAndThreeGatheredBuckets) {
  const int n = test_world().size();
  if (n == 1) return;
  ToyTraining toy(test_world().all(), {.ds = n, .zero = 3});
  const Sizes s = sizes_of(toy);
  const int64_t state = toy.runtime.memory().stats().in_use;
  int64_t most = 0;
  for (int step = 1; step <= 3; ++step)
    toy.step(step, [&] { most = std::max(most, toy.runtime.memory().stats().in_use - state); });
  // Gathered: the one in use with a row-major form, two ahead. Gradients as with level 2.
  EXPECT_LE(most, s.shard + (4 + 3) * s.largest_bucket + slack(toy));
  EXPECT_LT(most, s.all + s.all / 2);
}

}  // namespace
}  // namespace deepflow
