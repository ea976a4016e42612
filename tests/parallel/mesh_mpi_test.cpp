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

// Experts see the same ranks as another grid. Both put the pipeline outermost, so stages are the same groups in both.
TEST(MeshCommunicators, OfTheFoldedExpertViewAgreeOnThePipeline) {
  World& world = test_world();
  const int two = world.size() % 2 == 0 ? 2 : 1, four = world.size() % 4 == 0 ? 2 : 1;
  for (const int pp : {1, two}) {
    Mesh dense(world.all(), fit_layout({{"pp", pp}, {"dp", 0}, {"cp", 1}, {"tp", pp == 1 ? two : four}}, world.size()));
    Mesh folded(world.all(), fit_layout({{"pp", pp}, {"edp", 1}, {"ep", 0}, {"etp", 1}}, world.size()));
    EXPECT_EQ(members(dense.along("pp")), members(folded.along("pp")));
    EXPECT_EQ(dense.index("pp"), folded.index("pp"));
    EXPECT_EQ(dense.along("pp").rank(), dense.index("pp"));
    const std::vector<std::string> of_dense = {"dp", "cp", "tp"}, of_folded = {"edp", "ep", "etp"};
    EXPECT_EQ(members(dense.along(of_dense)), members(folded.along(of_folded)));
    for (int rank = 0; rank < world.size(); ++rank) {
      EXPECT_EQ(dense.coord_of(rank).front().index, folded.coord_of(rank).front().index);
      EXPECT_EQ(folded.rank_of(folded.coord_of(rank)), rank);
    }
    // A value summed over the stages in one view is the same in the other.
    const std::vector<int64_t> mine = {int64_t{1} << world.rank()};
    EXPECT_EQ(sum_integers(dense.along("pp"), mine, "dense"), sum_integers(folded.along("pp"), mine, "folded"));
  }
}

}  // namespace
}  // namespace deepflow
