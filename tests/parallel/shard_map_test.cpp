#include "parallel/shard_map.h"

#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <set>

namespace deepflow {
namespace {

using namespace testing;

struct Case {
  std::unique_ptr<ParameterRegistry> registry = std::make_unique<ParameterRegistry>();
  std::vector<Bucket> buckets;
};

Case random_case(uint64_t seed) {
  Case c;
  add_random_parameters(*c.registry, seed, 12);
  c.registry->freeze({});
  c.buckets = make_buckets(*c.registry, 15'000);
  return c;
}

// f(buckets, map, ranks, unit) for random parameters, 1 to 7 ranks and both units.
template <class F>
void for_each_map(F&& f) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Case c = random_case(seed);
    for (int ranks = 1; ranks <= 7; ++ranks)
      for (const UpdateUnit unit : {UpdateUnit::kRow, UpdateUnit::kMatrix}) {
        SCOPED_TRACE(::testing::Message() << "seed " << seed << " ranks " << ranks);
        f(c, ShardMap(c.buckets, ranks, unit), ranks, unit);
      }
  }
}

TEST(ShardMap, CoversEveryElementOfEveryParameterOnce) {
  for_each_map([](const Case& c, const ShardMap& map, int ranks, UpdateUnit) {
    std::map<const Parameter*, std::vector<int>> owners;
    for (const Parameter& p : c.registry->parameters())
      owners[&p].resize(static_cast<size_t>(p.local_shape.num_elements()));
    for (int r = 0; r < ranks; ++r)
      for (const ShardPiece& piece : map.pieces(r)) {
        const Bucket& bucket = c.buckets[static_cast<size_t>(piece.bucket)];
        EXPECT_GE(piece.begin, map.begin(piece.bucket, r));
        EXPECT_LE(piece.end, map.end(piece.bucket, r));
        const int64_t start = bucket.offset_of(*piece.parameter);
        for (int64_t i = piece.begin; i < piece.end; ++i)
          ++owners.at(piece.parameter).at(static_cast<size_t>(i - start));
      }
    for (const auto& [parameter, times] : owners)
      EXPECT_EQ(times, std::vector<int>(times.size(), 1)) << parameter->spec.name;
  });
}

TEST(ShardMap, DealsOutWholeBucketsInRankOrder) {
  for_each_map([](const Case& c, const ShardMap& map, int ranks, UpdateUnit) {
    EXPECT_EQ(map.num_ranks(), ranks);
    for (const Bucket& bucket : c.buckets) {
      const std::vector<int64_t>& counts = map.counts(bucket.id);
      ASSERT_EQ(counts.size(), static_cast<size_t>(ranks));
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), bucket.num_elements);
      for (int r = 0; r < ranks; ++r) EXPECT_EQ(map.end(bucket.id, r) - map.begin(bucket.id, r), counts[size_t(r)]);
      for (int r = 1; r < ranks; ++r) EXPECT_EQ(map.begin(bucket.id, r), map.end(bucket.id, r - 1));
    }
  });
}

// Elements between which a parameter is never cut.
int64_t unit_of(const Parameter& p, UpdateUnit unit) {
  if (p.local_shape.num_dims() < 2) return 64;
  const int64_t experts = p.local_shape.num_dims() > 2 ? p.local_shape[0] : 1;
  const bool is_matrix = unit == UpdateUnit::kMatrix && p.spec.role != Role::kEmbedding;
  return is_matrix ? p.local_shape.num_elements() / experts : p.local_shape.cols();
}

TEST(ShardMap, CutsBetweenUnitsOnly) {
  for_each_map([](const Case& c, const ShardMap& map, int ranks, UpdateUnit unit) {
    for (int r = 0; r < ranks; ++r)
      for (const ShardPiece& piece : map.pieces(r)) {
        const Parameter& p = *piece.parameter;
        const int64_t start = c.buckets[static_cast<size_t>(piece.bucket)].offset_of(p), step = unit_of(p, unit);
        EXPECT_EQ((piece.begin - start) % step, 0) << p.spec.name;
        if (piece.end - start != p.local_shape.num_elements()) {
          EXPECT_EQ((piece.end - start) % step, 0) << p.spec.name;
        }
      }
  });
}

TEST(ShardMap, NamesTheBoxOfEveryPiece) {
  for_each_map([](const Case& c, const ShardMap& map, int ranks, UpdateUnit) {
    for (int r = 0; r < ranks; ++r)
      for (const ShardPiece& piece : map.pieces(r)) {
        const Parameter& p = *piece.parameter;
        const Shape& shape = p.spec.shape;
        int64_t at = piece.begin - c.buckets[static_cast<size_t>(piece.bucket)].offset_of(p);
        ASSERT_EQ(piece.box.num_elements(), piece.end - piece.begin) << p.spec.name;
        // The elements of the box in row-major order are those of the range.
        std::vector<int64_t> index = piece.box.lo;
        for (; at < piece.end - c.buckets[static_cast<size_t>(piece.bucket)].offset_of(p); ++at) {
          int64_t flat = 0;
          for (int d = 0; d < shape.num_dims(); ++d) flat = flat * shape[d] + index[static_cast<size_t>(d)];
          ASSERT_EQ(flat, at) << p.spec.name;
          for (size_t d = index.size(); d-- > 0;) {
            if (++index[d] < piece.box.hi[d]) break;
            index[d] = piece.box.lo[d];
          }
        }
      }
  });
}

TEST(ShardMap, CountsBoxesFromTheSliceThatIsLocal) {
  ParameterRegistry registry;
  ParameterSpec rows = parameter("rows", {8, 16}), columns = parameter("columns", {8, 16});
  rows.placement = {{0, {"tp"}, 8}};
  columns.placement = {{1, {"tp"}, 16}};
  registry.add(rows);
  registry.add(columns);
  registry.freeze({{"tp", 1, 2}});
  const std::vector<Bucket> buckets = make_buckets(registry, 1 << 20);
  const ShardMap map(buckets, 2, UpdateUnit::kRow);
  std::map<std::string, std::vector<Box>> boxes;
  for (int r = 0; r < 2; ++r)
    for (const ShardPiece& piece : map.pieces(r)) boxes[piece.parameter->spec.name].push_back(piece.box);
  EXPECT_EQ(boxes["columns"], (std::vector<Box>{{{0, 8}, {8, 16}}}));
  EXPECT_EQ(boxes["rows"], (std::vector<Box>{{{4, 0}, {8, 16}}}));
}

TEST(ShardMap, CutsExpertsByRowsIntoBoxes) {
  ParameterRegistry registry;
  ParameterSpec experts = parameter("experts", {8, 6, 16}, Role::kExpert);
  experts.placement = {{0, {"ep"}, 8}, {1, {"etp"}, 6}};
  registry.add(experts);
  registry.freeze({{"ep", 1, 2}, {"etp", 0, 2}});  // experts 4 to 7, their first three rows
  const std::vector<Bucket> buckets = make_buckets(registry, 1 << 20);
  const ShardMap rows(buckets, 5, UpdateUnit::kRow), matrices(buckets, 3, UpdateUnit::kMatrix);
  std::vector<Box> boxes;
  for (const ShardPiece& piece : rows.pieces(1)) boxes.push_back(piece.box);
  EXPECT_EQ(boxes, (std::vector<Box>{{{4, 2, 0}, {5, 3, 16}}, {{5, 0, 0}, {6, 2, 16}}}));
  boxes.clear();
  for (const ShardPiece& piece : matrices.pieces(1)) boxes.push_back(piece.box);
  EXPECT_EQ(boxes, (std::vector<Box>{{{5, 0, 0}, {7, 3, 16}}}));
}

TEST(ShardMap, CutsAsEvenlyAsUnitsAllow) {
  for_each_map([](const Case& c, const ShardMap& map, int ranks, UpdateUnit unit) {
    for (const Bucket& bucket : c.buckets) {
      std::set<int64_t> cuts{0, bucket.num_elements};
      for (const Pack* pack : bucket.packs)
        for (const Parameter* p : pack->members) {
          const int64_t start = bucket.offset_of(*p), size = p->local_shape.num_elements();
          for (int64_t at = 0; at < size; at += unit_of(*p, unit)) cuts.insert(start + at);
          cuts.insert(start + size);
        }
      for (int r = 1; r < ranks; ++r) {
        const int64_t wanted = bucket.num_elements * r / ranks, cut = map.begin(bucket.id, r);
        int64_t least = bucket.num_elements;
        for (const int64_t allowed : cuts) least = std::min(least, std::abs(allowed - wanted));
        EXPECT_EQ(std::abs(cut - wanted), least);
        EXPECT_TRUE(cuts.contains(cut));
      }
    }
  });
}

}  // namespace
}  // namespace deepflow
