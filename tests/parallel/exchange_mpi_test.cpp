#include "kernels/ops/elementwise.h"
#include "parallel/exchange/dense.h"
#include "parallel/resident_store.h"
#include "tests/parallel/mpi_test.h"
#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

#include <memory>

namespace deepflow {
namespace {

using namespace testing;

float gradient_element(int rank, int bucket, int64_t i) {
  return random_normal(random_site(static_cast<uint64_t>(rank), "gradient"), bucket, i);
}

// Parameters in several buckets, the same on every rank, and the exchange of this rank.
struct Fixture {
  Communicator& comm = test_world().all();
  Runtime runtime{{.threads = 1}};
  std::unique_ptr<Stream> stream = make_cpu_stream();
  ParameterRegistry registry;
  std::unique_ptr<ResidentStore> store;
  std::unique_ptr<ShardMap> shards;
  std::unique_ptr<DenseExchange> exchange;

  explicit Fixture(int zero) {
    add_random_parameters(registry, 5, 12);
    registry.freeze({{"dp", comm.rank(), comm.size()}});
    store = std::make_unique<ResidentStore>(runtime, registry, DType::kF32, 9000);
    store->initialise(1);
    shards = std::make_unique<ShardMap>(store->buckets(), zero > 0 ? comm.size() : 1, UpdateUnit::kRow);
    exchange = std::make_unique<DenseExchange>(comm, *shards);
  }
  int owner() const { return shards->num_ranks() > 1 ? comm.rank() : 0; }

  void contribute_everything() {
    store->begin_step(1, exchange.get());
    auto& packs = registry.packs();
    for (auto pack = packs.rbegin(); pack != packs.rend(); ++pack) {
      GradientTarget target = store->gradient(*pack);
      fill(runtime, target.value, 0);  // padding
      for (Bucket& bucket : store->buckets())
        for (size_t i = 0; i < bucket.packs.size(); ++i) {
          if (bucket.packs[i] != &*pack) continue;
          for (const Parameter* p : pack->members)
            for (int64_t e = 0; e < p->local_shape.num_elements(); ++e)
              target.value.data<float>()[p->pack_offset + e] =
                  gradient_element(comm.rank(), bucket.id, bucket.offset_of(*p) + e);
        }
      store->contributed(*pack);
    }
    store->finish_gradients(*stream);
  }
};

TEST(DenseExchange, SumsTheGradientsOfAllRanksInRankOrder) {
  for (const int zero : {0, 1}) {
    Fixture f(zero);
    ASSERT_GT(f.store->buckets().size(), 2u);
    for (int step = 0; step < 2; ++step) {
      f.contribute_everything();
      for (const ShardPiece& piece : f.shards->pieces(f.owner())) {
        const Bucket& bucket = f.store->buckets()[static_cast<size_t>(piece.bucket)];
        for (int64_t i = piece.begin; i < piece.end; ++i) {
          float sum = gradient_element(0, piece.bucket, i);
          for (int r = 1; r < f.comm.size(); ++r) sum += gradient_element(r, piece.bucket, i);
          ASSERT_EQ(bucket.grad.data<float>()[i], sum) << "zero " << zero << " bucket " << piece.bucket << " at " << i;
        }
      }
    }
  }
}

TEST(DenseExchange, LeavesTheGapsBetweenPacksZero) {
  Fixture f(0);
  f.contribute_everything();
  for (const Bucket& bucket : f.store->buckets()) {
    std::vector<bool> used(static_cast<size_t>(bucket.num_elements));
    for (const Pack* pack : bucket.packs)
      for (const Parameter* p : pack->members)
        for (int64_t i = 0; i < p->local_shape.num_elements(); ++i)
          used[static_cast<size_t>(bucket.offset_of(*p) + i)] = true;
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) {
        ASSERT_EQ(bucket.grad.data<float>()[i], 0);
      }
    }
  }
}

TEST(DenseExchange, SharesEveryShardSoThatMastersAreTheSameEverywhere) {
  Fixture f(1);
  const auto updated = [](int bucket, int64_t i) { return static_cast<float>(bucket) + 1e-5f * static_cast<float>(i); };
  for (Bucket& bucket : f.store->buckets()) fill(f.runtime, bucket.master, -1.0f - static_cast<float>(f.comm.rank()));
  for (const ShardPiece& piece : f.shards->pieces(f.owner()))
    for (int64_t i = piece.begin; i < piece.end; ++i)
      f.store->buckets()[static_cast<size_t>(piece.bucket)].master.data<float>()[i] = updated(piece.bucket, i);
  f.store->share_all(*f.exchange);
  f.exchange->finish(true);
  f.store->wait_for_masters(*f.stream);
  for (const Parameter& p : f.registry.parameters())
    for (const Bucket& bucket : f.store->buckets())
      for (const Pack* pack : bucket.packs) {
        if (pack != p.pack) continue;
        for (int64_t i = 0; i < p.local_shape.num_elements(); ++i)
          ASSERT_EQ(bucket.master.data<float>()[bucket.offset_of(p) + i], updated(bucket.id, bucket.offset_of(p) + i));
      }
}

TEST(DenseExchange, MovesNoMoreBytesWithShardingThanWithout) {
  int64_t moved[2];
  for (const int zero : {0, 1}) {
    Fixture f(zero);
    const int64_t before = f.comm.bytes().sent;
    f.contribute_everything();
    f.store->share_all(*f.exchange);
    f.store->wait_for_masters(*f.stream);
    moved[zero] = f.comm.bytes().sent - before;
  }
  const double sent = sum_doubles(test_world().all(), std::vector<double>{double(moved[0])}, "sent")[0];
  const double sent_sharded = sum_doubles(test_world().all(), std::vector<double>{double(moved[1])}, "sent")[0];
  if (test_world().size() > 1) {
    EXPECT_GT(sent, 0);
    EXPECT_GT(sent_sharded, 0);
    EXPECT_LE(sent_sharded, 1.05 * sent);
  } else {
    EXPECT_EQ(sent + sent_sharded, 0);
  }
}

}  // namespace
}  // namespace deepflow
