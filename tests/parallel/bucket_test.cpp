#include "parallel/bucket.h"

#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

using namespace testing;

TEST(Buckets, HoldPacksInReverseOrderOfDeclaration) {
  ParameterRegistry registry;
  add_random_parameters(registry, 1, 30);
  registry.freeze({});
  const std::vector<Bucket> buckets = make_buckets(registry, 20'000);
  ASSERT_GT(buckets.size(), 3u);
  int expected = static_cast<int>(registry.packs().size()) - 1;
  for (size_t b = 0; b < buckets.size(); ++b) {
    EXPECT_EQ(buckets[b].id, static_cast<int>(b));
    for (const Pack* pack : buckets[b].packs) EXPECT_EQ(pack->id, expected--);
  }
  EXPECT_EQ(expected, -1);
}

TEST(Buckets, StartPacksAtMultiplesOf64WithoutOverlap) {
  ParameterRegistry registry;
  add_random_parameters(registry, 2, 30);
  registry.freeze({});
  for (const Bucket& bucket : make_buckets(registry, 10'000)) {
    ASSERT_EQ(bucket.packs.size(), bucket.offsets.size());
    int64_t end = 0;
    for (size_t i = 0; i < bucket.packs.size(); ++i) {
      EXPECT_EQ(bucket.offsets[i] % 64, 0);
      EXPECT_GE(bucket.offsets[i], end);
      EXPECT_LT(bucket.offsets[i], end + 64);
      end = bucket.offsets[i] + bucket.packs[i]->num_elements();
      for (const Parameter* p : bucket.packs[i]->members)
        EXPECT_EQ(bucket.offset_of(*p), bucket.offsets[i] + p->pack_offset);
    }
    EXPECT_GE(bucket.num_elements, end);
    EXPECT_EQ(bucket.num_elements % 64, 0);
  }
}

TEST(Buckets, AreAsLargeAsAskedForAndTheFirstAQuarter) {
  ParameterRegistry registry;
  for (int i = 0; i < 20; ++i) registry.add(parameter(fmt::format("p{}", i), {10, 64}));
  registry.freeze({});
  const std::vector<Bucket> buckets = make_buckets(registry, 8 * 640);
  ASSERT_EQ(buckets.size(), 4u);
  EXPECT_EQ(buckets[0].num_elements, 2 * 640);
  EXPECT_EQ(buckets[1].num_elements, 8 * 640);
  EXPECT_EQ(buckets[2].num_elements, 8 * 640);
  EXPECT_EQ(buckets[3].num_elements, 2 * 640);
}

TEST(Buckets, NeverCutAPack) {
  ParameterRegistry registry;
  registry.add(parameter("small", {4, 64}));
  registry.add(parameter("large", {1000, 64}));
  registry.add(parameter("last", {4, 64}));
  registry.freeze({});
  const std::vector<Bucket> buckets = make_buckets(registry, 2048);
  ASSERT_EQ(buckets.size(), 3u);
  EXPECT_EQ(buckets[1].packs.front()->name, "large");
  EXPECT_EQ(buckets[1].num_elements, 64'000);
}

TEST(Buckets, HoldOneChunkEachAndOnlyWhatThisRankReads) {
  ParameterRegistry registry;
  const auto add = [&](const std::string& name, std::vector<int> chunks) {
    ParameterSpec spec = parameter(name, {10, 64});
    spec.chunks = std::move(chunks);
    registry.add(spec);
  };
  add("tied", {0, 3});
  for (int i = 0; i < 8; ++i) add(fmt::format("p{}", i), {i / 2});
  const std::vector<int> mine = {0, 2};
  registry.freeze({}, mine);
  std::vector<std::vector<std::string>> names;
  for (const Bucket& bucket : make_buckets(registry, 1 << 20)) {
    EXPECT_EQ(bucket.id, static_cast<int>(names.size()));
    names.emplace_back();
    for (const Pack* pack : bucket.packs) names.back().push_back(pack->name);
  }
  EXPECT_EQ(names, (std::vector<std::vector<std::string>>{{"p5", "p4"}, {"p1", "p0"}, {"tied"}}));
}

TEST(Buckets, MayKeepMatricesApartFromWhatIsReadExactly) {
  ParameterRegistry registry;
  for (int i = 0; i < 3; ++i) {
    registry.add(parameter(fmt::format("norm{}", i), {64}, Role::kNorm));
    registry.add(parameter(fmt::format("matrix{}", i), {8, 64}));
  }
  registry.freeze({});
  const std::vector<Bucket> buckets = make_buckets(registry, 1 << 20, nullptr, true);
  ASSERT_EQ(buckets.size(), 2u);
  for (const Pack* pack : buckets[0].packs) EXPECT_EQ(pack->role(), Role::kMatrix);
  for (const Pack* pack : buckets[1].packs) EXPECT_EQ(pack->role(), Role::kNorm);
}

}  // namespace
}  // namespace deepflow
