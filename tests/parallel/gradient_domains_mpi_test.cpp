#include "parallel/bucket.h"
#include "parallel/gradient_domains.h"
#include "tests/parallel/mpi_test.h"
#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

using namespace testing;

ParameterSpec placed(const std::string& name, int64_t units, std::vector<int> chunks = {0}) {
  ParameterSpec spec = parameter(name, {64, 8});
  spec.placement = {{0, {"tp"}, units}};
  spec.chunks = std::move(chunks);
  return spec;
}

// Stages 0 and 1 read chunks 0 and 1; all kinds of parameters.
struct Model {
  Mesh mesh;
  ParameterRegistry registry;
  std::unique_ptr<GradientDomains> domains;

  Model(int pp, int ds, int tp, int kv_units)
      : mesh(test_world().all(), {{"pp", pp}, {"dr", 1}, {"ds", ds}, {"cp", 1}, {"tp", tp}}) {
    registry.add(placed("tied", 64, {0, pp - 1}));
    registry.add("qkv", {placed("q", 64), placed("k", kv_units), placed("v", kv_units)});
    ParameterSpec norm = parameter("norm", {8}, Role::kNorm);
    norm.partial = {"tp"};
    registry.add(norm);
    norm.name = "last_norm";
    norm.chunks = {pp - 1};
    registry.add(norm);
    ParameterSpec bias = parameter("bias", {8}, Role::kBias);
    registry.add(bias);
    const std::vector<int> chunks = {mesh.index("pp")};
    registry.freeze(mesh.coord(), chunks);
    std::vector<int> rank_of_chunk;
    for (int s = 0; s < pp; ++s) rank_of_chunk.push_back(s);
    domains = std::make_unique<GradientDomains>(mesh, registry, rank_of_chunk);
  }
  // World ranks whose gradients are summed with ours.
  std::vector<int> members(const std::string& name) {
    Communicator* comm = domains->partial(*registry.find(name));
    std::vector<int> ranks;
    if (!comm) return {test_world().rank()};
    for (const std::string& r : gather_texts(*comm, std::to_string(test_world().rank()), "members"))
      ranks.push_back(std::stoi(r));
    return ranks;
  }
};

TEST(GradientDomains, OfOneRankAreNone) {
  if (test_world().size() > 1) return;
  Model m(1, 1, 1, 64);
  for (const Parameter& p : m.registry.parameters()) {
    EXPECT_EQ(m.domains->partial(p), nullptr) << p.spec.name;
    EXPECT_TRUE(m.domains->counts(p)) << p.spec.name;
  }
}

TEST(GradientDomains, JoinNeighboursThatShareHeadsAndAxesThatSpecsName) {
  const int n = test_world().size(), me = test_world().rank();
  if (n < 2) return;
  Model m(1, 1, n, n / 2);
  std::vector<int> all;
  for (int r = 0; r < n; ++r) all.push_back(r);
  EXPECT_EQ(m.members("norm"), all);
  EXPECT_EQ(m.members("q"), std::vector<int>{me});
  EXPECT_EQ(m.members("bias"), std::vector<int>{me});
  EXPECT_EQ(m.members("k"), (std::vector<int>{me / 2 * 2, me / 2 * 2 + 1}));
  EXPECT_EQ(m.domains->partial(*m.registry.find("k")), m.domains->partial(*m.registry.find("v")));
  EXPECT_EQ(m.domains->counts(*m.registry.find("k")), me % 2 == 0);
  EXPECT_EQ(m.domains->counts(*m.registry.find("bias")), me == 0);
  EXPECT_TRUE(m.domains->counts(*m.registry.find("q")));
}

TEST(GradientDomains, LeaveRanksWithOtherRowsToTheExchange) {
  const int n = test_world().size();
  Model m(1, n, 1, 64);
  for (const Parameter& p : m.registry.parameters()) {
    EXPECT_EQ(m.domains->partial(p), nullptr) << p.spec.name;
    EXPECT_TRUE(m.domains->counts(p)) << p.spec.name;
  }
  EXPECT_EQ(m.domains->shard().size(), n);
  EXPECT_EQ(m.domains->gradient().size(), n);
  EXPECT_EQ(m.domains->replica().size(), 1);
}

TEST(GradientDomains, JoinTheStagesThatReadATiedEmbedding) {
  const int n = test_world().size(), me = test_world().rank();
  if (n < 2) return;
  const int tp = n / 2, stage = me / tp, place = me % tp;
  Model m(2, 1, tp, 64);
  EXPECT_EQ(m.members("tied"), (std::vector<int>{place, tp + place}));
  EXPECT_EQ(m.domains->counts(*m.registry.find("tied")), stage == 0);
  EXPECT_EQ(m.domains->counts(*m.registry.find("last_norm")), stage == 1 && place == 0);
  EXPECT_EQ(m.domains->counts(*m.registry.find("norm")), stage == 0 && place == 0);
  EXPECT_EQ(m.domains->partial(*m.registry.find(stage == 0 ? "last_norm" : "norm")), nullptr);  // not read here
  if (tp > 1) {
    EXPECT_EQ(m.members(stage == 0 ? "norm" : "last_norm"), (std::vector<int>{stage * tp, stage * tp + 1}));
  }
}

TEST(GradientDomains, HaveNothingToSumWhereBothChunksAreOnOneRank) {
  const int n = test_world().size();
  Mesh mesh(test_world().all(), {{"pp", n}});
  ParameterRegistry registry;
  registry.add(placed("tied", 64, {0, 2 * n - 1}));
  std::vector<int> rank_of_chunk;  // there and back again
  for (int s = 0; s < 2 * n; ++s) rank_of_chunk.push_back(s < n ? s : 2 * n - 1 - s);
  const std::vector<int> mine = {mesh.index("pp"), 2 * n - 1 - mesh.index("pp")};
  registry.freeze(mesh.coord(), mine);
  const GradientDomains domains(mesh, registry, rank_of_chunk);
  EXPECT_EQ(domains.partial(registry.parameters().front()), nullptr);
  EXPECT_EQ(domains.counts(registry.parameters().front()), mesh.index("pp") == 0);
}

// Where gradients are partial is the same on all ranks that sum them.
TEST(PartialRanges, CoverWhatIsPartialAndJoinNeighbours) {
  const int n = test_world().size();
  if (n < 2) return;
  Model m(1, 1, n, n / 2);
  for (const Bucket& bucket : make_buckets(m.registry, 1 << 20, m.domains.get())) {
    std::vector<Communicator*> covered(static_cast<size_t>(bucket.num_elements));
    for (const PartialRange& r : bucket.partial)
      for (int64_t i = r.begin; i < r.end; ++i) covered[static_cast<size_t>(i)] = r.comm;
    for (const Pack* pack : bucket.packs)
      for (const Parameter* p : pack->members)
        for (int64_t i = 0; i < p->local_shape.num_elements(); ++i)
          ASSERT_EQ(covered[static_cast<size_t>(bucket.offset_of(*p) + i)], m.domains->partial(*p)) << p->spec.name;
    const std::string first = bucket.packs.front()->name;
    const size_t expected = first == "bias" ? 0 : 1;  // k|v; norm, norm
    if (first != "tied") {
      EXPECT_EQ(bucket.partial.size(), expected) << first;
    }
    if (first == "last_norm") {
      EXPECT_EQ(bucket.packs.size(), 2u);
      EXPECT_EQ(bucket.partial.front().end - bucket.partial.front().begin, 64 + 8);
    }
  }
}

}  // namespace
}  // namespace deepflow
