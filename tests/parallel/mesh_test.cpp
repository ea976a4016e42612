#include "parallel/mesh.h"

#include "core/error.h"
#include "core/option_yaml.h"
#include "parallel/bootstrap.h"
#include "parallel/self_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace deepflow {
namespace {

std::string refusal(std::vector<AxisSize> axes, int ranks) {
  try {
    fit_layout(std::move(axes), ranks);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

std::string sizes(const std::vector<AxisSize>& axes) {
  std::string text;
  for (const AxisSize& a : axes) text += (text.empty() ? "" : ", ") + a.name + " " + std::to_string(a.size);
  return text;
}

TEST(Layout, FillsInTheAxisThatIsLeftOpen) {
  const auto axes = fit_layout({{"pp", 2}, {"dp", 0}, {"tp", 4}}, 24);
  EXPECT_EQ(axes[1].size, 3);
}

TEST(Layout, RefusesWithArithmeticAndNearLayouts) {
  EXPECT_EQ(refusal({{"pp", 1}, {"dp", 2}, {"tp", 3}}, 4),
            "parallel: dp 2 x tp 3 needs 6 ranks, 4 were started; layouts near it: dp 2 x tp 2; tp 4; dp 4");
  EXPECT_EQ(refusal({{"dp", 2}}, 1), "parallel: dp 2 needs 2 ranks, 1 was started; layouts near it: 1 rank");
  EXPECT_EQ(refusal({{"dp", 0}, {"tp", 3}}, 4),
            "parallel: tp 3 does not divide the 4 ranks that were started; start a multiple of 3 ranks; layouts near "
            "it: tp 4; dp 2 x tp 2; dp 4");
  EXPECT_EQ(refusal({{"pp", 2}, {"dp", 0}, {"cp", 1}, {"tp", 4}}, 12),
            "parallel: pp 2 x tp 4 = 8 does not divide the 12 ranks that were started; start a multiple of 8 ranks; "
            "layouts near it: pp 2 x dp 2 x tp 3; pp 2 x tp 6; pp 3 x tp 4");
  EXPECT_EQ(refusal({{"dp", 0}, {"tp", 2}}, 1),
            "parallel: tp 2 does not divide the 1 rank that was started; start a multiple of 2 ranks; layouts near it: "
            "1 rank");
}

TEST(Mesh, CoordinatesAndRanksAreInverse) {
  const auto world = make_self_communicator("world");
  Mesh mesh(*world, {{"pp", 1}, {"dp", 1}});
  EXPECT_EQ(mesh.describe(), "1 rank");
  EXPECT_EQ(mesh.size("dp"), 1);
  EXPECT_EQ(mesh.size("tp"), 1);
  EXPECT_EQ(mesh.index("tp"), 0);
  EXPECT_EQ(mesh.along("dp").size(), 1);
  EXPECT_EQ(mesh.rank_of(mesh.coord()), 0);
}

TEST(ParallelOptions, AreDeclared) {
  ParallelOptions options;
  OptionGroup group("parallel");
  declare(group, options);
  EXPECT_NE(group.find("dp"), nullptr);
  EXPECT_NE(group.find("zero"), nullptr);
  EXPECT_NE(group.find("comm_timeout"), nullptr);
  // Unless told otherwise all ranks are data parallel, and share the optimizer state.
  EXPECT_EQ(options.zero, 1);
  for (const char* key :
       {"tp", "sp", "tp_overlap", "cp", "cp_method", "ep_overlap", "pp", "vp", "schedule", "layers", "shard"})
    EXPECT_NE(group.find(key), nullptr) << key;
  EXPECT_EQ(sizes(layout_of(options, 8).axes), "pp 1, dr 1, ds 8, cp 1, tp 1");
}

TEST(ParallelOptions, SayWhichRanksAreNeighbours) {
  ParallelOptions options;
  options.pp = 2, options.cp = 2, options.tp = 2, options.shard = 2;
  EXPECT_EQ(sizes(layout_of(options, 32).axes), "pp 2, dr 2, ds 2, cp 2, tp 2");
  options.shard = 3;
  EXPECT_THROW(layout_of(options, 32), ConfigError);
}

LaunchPlace place(const std::map<std::string, std::string>& environment) {
  return find_launch_place([&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Layout, FoldsExpertsOverTheRanksOfAStage) {
  ParallelOptions options;
  options.pp = 2;
  options.tp = 2;
  options.cp = 2;
  options.shard = 2;
  options.ep = 4;
  EXPECT_EQ(sizes(layout_of(options, 32).expert_axes), "pp 2, er 2, es 2, ep 4, etp 1");
  options.etp = 2;
  EXPECT_EQ(sizes(layout_of(options, 32).expert_axes), "pp 2, er 2, es 1, ep 4, etp 2");
  options.ep = 8;  // more ranks than a replica of the batch has
  EXPECT_EQ(sizes(layout_of(options, 32).expert_axes), "pp 2, er 1, es 1, ep 8, etp 2");
}

TEST(Layout, SaysHowManyRanksCanShareTheExperts) {
  ParallelOptions options;
  options.tp = 2;
  options.ep = 4;
  const auto refusal_of = [&] {
    try {
      layout_of(options, 12);
    } catch (const ConfigError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal_of(), "");
  options.ep = 5;
  EXPECT_EQ(
      refusal_of(),
      "parallel.ep: 5 does not divide the 12 ranks of a pipeline stage (dp 6 x tp 2); ep can be 1, 2, 3, 4, 6, 12 "
      "here");
  options.ep = 4;
  options.etp = 2;
  EXPECT_EQ(
      refusal_of(),
      "parallel.ep: 4 x etp 2 = 8 does not divide the 12 ranks of a pipeline stage (dp 6 x tp 2); ep can be 1, 2, "
      "3, 6 here");
  options.etp = 5;
  EXPECT_EQ(refusal_of(),
            "parallel.ep: 4 x etp 5 = 20 does not divide the 12 ranks of a pipeline stage (dp 6 x tp 2); etp can be 1, "
            "2, 3, 4, 6, 12");
}

TEST(LaunchPlace, NothingMeansAlone) {
  EXPECT_EQ(place({}).launcher, "");
  // A batch script itself, before srun: Slurm's variables, but no step.
  EXPECT_EQ(place({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "5"}}).launcher, "");
}

TEST(LaunchPlace, MpirunSaysEverything) {
  const LaunchPlace p = place({{"OMPI_COMM_WORLD_SIZE", "8"},
                               {"OMPI_COMM_WORLD_RANK", "5"},
                               {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                               {"SLURM_STEP_NUM_TASKS", "2"},
                               {"SLURM_PROCID", "1"}});
  EXPECT_EQ(p.launcher, "mpirun");
  EXPECT_EQ(p.rank, 5);
  EXPECT_EQ(p.size, 8);
  EXPECT_EQ(p.local_rank, 1);
  EXPECT_EQ(p.ranks_on_host, 4);
}

TEST(LaunchPlace, SrunCountsTasksPerNode) {
  std::map<std::string, std::string> environment = {{"SLURM_STEP_NUM_TASKS", "8"},
                                                    {"SLURM_PROCID", "7"},
                                                    {"SLURM_LOCALID", "0"},
                                                    {"SLURM_NODEID", "3"},
                                                    {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"}};
  EXPECT_EQ(place(environment).launcher, "srun");
  EXPECT_EQ(place(environment).ranks_on_host, 1);
  environment["SLURM_NODEID"] = "2";
  EXPECT_EQ(place(environment).ranks_on_host, 2);
  environment["SLURM_NODEID"] = "4";
  EXPECT_EQ(place(environment).ranks_on_host, std::nullopt);
  environment["SLURM_STEP_TASKS_PER_NODE"] = "2(x";
  EXPECT_EQ(place(environment).ranks_on_host, std::nullopt);
}

TEST(World, AloneNeedsNoMpi) {
  World world({}, {});
  EXPECT_EQ(world.size(), 1);
  EXPECT_EQ(world.mpi(), nullptr);
  EXPECT_EQ(world.flight_report(), "");
  World only({"mpirun", 0, 1, 0, 1}, {});
  EXPECT_EQ(only.mpi(), nullptr);
}

}  // namespace
}  // namespace deepflow
