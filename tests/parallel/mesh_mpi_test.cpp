#include "parallel/mesh.h"
#include "tests/parallel/mpi_test.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

// The world ranks in a communicator, in its order.
std::vector<int> members(Communicator& comm) {
  std::vector<int> ranks;
  for (const std::string& r : gather_texts(comm, std::to_string(test_world().rank()), "members"))
    ranks.push_back(std::stoi(r));
  return ranks;
}

TEST(MeshCommunicators, HoldTheRanksThatDifferOnlyThere) {
  World& world = test_world();
  const int tp = world.size() >= 4 ? 2 : 1;
  Mesh mesh(world.all(), fit_layout({{"pp", 1}, {"dp", 0}, {"cp", 1}, {"tp", tp}}, world.size()));
  const int dp = world.size() / tp, i = mesh.index("dp"), j = mesh.index("tp");
  EXPECT_EQ(world.rank(), i * tp + j);
  std::vector<int> along_dp, along_tp, all;
  for (int k = 0; k < dp; ++k) along_dp.push_back(k * tp + j);
  for (int k = 0; k < tp; ++k) along_tp.push_back(i * tp + k);
  for (int k = 0; k < world.size(); ++k) all.push_back(k);
  EXPECT_EQ(members(mesh.along("dp")), along_dp);
  EXPECT_EQ(members(mesh.along("tp")), along_tp);
  EXPECT_EQ(members(mesh.along("pp")), std::vector<int>{world.rank()});
  const std::vector<std::string> both = {"tp", "dp"}, swapped = {"dp", "tp"}, one = {"cp", "dp"};
  EXPECT_EQ(members(mesh.along(both)), all);
  EXPECT_EQ(&mesh.along(both), &mesh.along(swapped));
  EXPECT_EQ(&mesh.along(one), &mesh.along("dp"));
}

TEST(MeshCommunicators, SumAlongEachAxis) {
  World& world = test_world();
  Mesh mesh(world.all(), fit_layout({{"dp", 0}, {"tp", world.size() % 2 == 0 ? 2 : 1}}, world.size()));
  const std::vector<int64_t> mine = {int64_t{1} << world.rank()};
  int64_t expected = 0;
  for (int r = 0; r < world.size(); ++r)
    if (mesh.coord_of(r)[0].index == mesh.index("dp")) expected |= int64_t{1} << r;
  EXPECT_EQ(sum_integers(mesh.along("tp"), mine, "tp")[0], expected);
}

TEST(MeshCommunicators, OfTheExpertsGridAgreeWithTheOtherOnThePipeline) {
  World& world = test_world();
  const int n = world.size(), two = n % 2 == 0 ? 2 : 1, four = n % 4 == 0 ? 2 : 1;
  for (const int pp : {1, two}) {
    ParallelOptions options;
    options.pp = pp;
    options.tp = pp == 1 ? two : four;
    options.ep = n / pp;
    Mesh mesh(world.all(), layout_of(options, n));
    const int stage = world.rank() / (n / pp), place = world.rank() % (n / pp);
    EXPECT_EQ(mesh.index("pp"), stage);
    EXPECT_EQ(mesh.index("ep"), place);
    EXPECT_EQ(mesh.size("ep"), n / pp);
    EXPECT_EQ(mesh.along("ep").rank(), place);
    const std::vector<std::string> of_dense = {"ds", "cp", "tp"}, of_experts = {"es", "ep", "etp"};
    EXPECT_EQ(members(mesh.along(of_dense)), members(mesh.along(of_experts)));
    for (int rank = 0; rank < n; ++rank) {
      EXPECT_EQ(mesh.rank_of(mesh.coord_of(rank)), rank);
      EXPECT_EQ(mesh.coord_among_experts(rank).front().index, mesh.coord_of(rank).front().index);
    }
  }
}

}  // namespace
}  // namespace deepflow
