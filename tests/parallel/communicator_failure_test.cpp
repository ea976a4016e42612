#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int exit_code;
  double seconds;
  std::string output;
};

// Two ranks under mpirun; DF_RANK_THAT_FAILS is tests/parallel/rank_that_fails.cpp.
Outcome run_job(const std::string& scenario, const std::string& environment = "") {
  const auto begin = std::chrono::steady_clock::now();
  const std::string command = environment + " timeout 50 " DF_MPIRUN " 2 " DF_RANK_THAT_FAILS " " + scenario + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  Outcome outcome;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) outcome.output.append(buffer, n);
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_LT(outcome.seconds, 15) << scenario;
  return outcome;
}

void expect_error(const std::string& scenario, const std::string& text) {
  const Outcome job = run_job(scenario);
  EXPECT_EQ(job.exit_code, 2) << scenario;
  EXPECT_THAT(job.output, HasSubstr(text)) << scenario;
  EXPECT_EQ(std::count(job.output.begin(), job.output.end(), '\n'), 1) << job.output;
}

TEST(FailingRank, ThatNeverArrivesIsNamed) {
  expect_error("never_arrives",
               "deepflow: rank 0: waited 1 s in `start` barrier #0 of communicator `world`; rank 1 never arrived");
  expect_error("waits_behind",
               "in `layers.6` all_reduce #2 of communicator `world`, which stands behind `layers.7` all_reduce #1; "
               "rank 1 never arrived");
  expect_error("never_sends", "in `activations` batch #0 of communicator `world`; rank 1 never arrived");
}

TEST(FailingRank, ThatThrowsTakesTheJobDown) {
  expect_error("throws", "deepflow: rank 1: recipe.yaml:3: something is wrong\n");
  const Outcome bug = run_job("throws_a_bug");
  EXPECT_EQ(bug.exit_code, 3);
  EXPECT_THAT(bug.output, HasSubstr("deepflow: rank 1: internal error: impossible\n"));
}

TEST(FailingRank, SpeaksForAllWhenAllFail) {
  const Outcome job = run_job("all_throw");
  EXPECT_EQ(job.exit_code, 2);
  EXPECT_THAT(job.output, HasSubstr("deepflow: rank 0: recipe.yaml:3: all see it\n"));
  EXPECT_THAT(job.output, Not(HasSubstr("rank 1:")));
}

TEST(FailingRank, ThatDiesTakesTheJobDown) {
  EXPECT_NE(run_job("is_killed").exit_code, 0);
  EXPECT_EQ(run_job("leaves").exit_code, 7);
}

TEST(MismatchedCalls, AreToldApart) {
  expect_error("other_name",
               "rank 0 calls all_reduce sum `layers.1` of 32 bytes f32, rank 1 calls all_reduce sum `layers.2` of 32 "
               "bytes f32");
  expect_error("other_size", "of 32 bytes f32, rank 1 calls all_reduce sum `layers.1` of 36 bytes f32");
  expect_error("other_kind",
               "rank 0 calls broadcast from 0 `x` of 32 bytes f32, rank 1 calls barrier `x` of 0 bytes u8");
  expect_error("other_counts", "`parameters` of 32 bytes f32 with other counts");
  expect_error("other_message", "rank 0 calls batch `p2p` of 32 bytes f32, rank 1 calls batch `p2p` of 36 bytes f32");
}

TEST(MismatchedCalls, FailEvenWhenNobodyCompares) {
  const Outcome job = run_job("unchecked_size");
  EXPECT_EQ(job.exit_code, 2);
  EXPECT_THAT(job.output, HasSubstr("`layers.1` all_reduce #0 of communicator `world`"));
}

TEST(FlightReport, IsLeftBehind) {
  const auto dir = std::filesystem::path(testing::TempDir()) / "deepflow_flight";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  run_job("waits_behind", "FLIGHT_DIR=" + dir.string());
  std::stringstream text;
  text << std::ifstream(dir / "flight-0.txt").rdbuf();
  EXPECT_THAT(text.str(), HasSubstr("`world` #0 all_reduce `together` 20 bytes, done"));
  EXPECT_THAT(text.str(), HasSubstr("`world` #1 all_reduce `layers.7` 20 bytes, failed"));
  std::filesystem::remove_all(dir);
}

}  // namespace
