// Runs the program itself: what it prints, on which stream, and with which exit code.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace deepflow {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

struct Outcome {
  int exit_code = 0;
  std::string out, err;
};

class Program : public testing::Test {
 protected:
  Program() : folder_(std::filesystem::path(testing::TempDir()) / ("cli_test." + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Program() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }

  // `before`: what stands in front of the program in the shell (environment, mpirun).
  Outcome run(const std::string& arguments, const std::string& before = "") const {
    const std::string err = folder_ / "err";
    const std::string line = before + " " DEEPFLOW_BINARY " " + arguments + " 2> " + err;
    Outcome outcome;
    FILE* pipe = popen(line.c_str(), "r");
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) outcome.out += static_cast<char>(c);
    const int status = pclose(pipe);
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    std::ostringstream text;
    text << std::ifstream(err).rdbuf();
    outcome.err = text.str();
    return outcome;
  }

  // The one line on stderr of a command that must fail with exit code 2 and print nothing else.
  std::string error(const std::string& arguments) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.err;
  }

  std::filesystem::path folder_;
};

TEST_F(Program, SaysItsVersion) {
  const Outcome outcome = run("--version");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, "deepflow " DEEPFLOW_VERSION "\n");
}

TEST_F(Program, HelpListsTheCommands) {
  const Outcome outcome = run("--help");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("  recipe "));
  EXPECT_THAT(outcome.out, HasSubstr("--debug"));
  EXPECT_THAT(run("recipe --help").out, HasSubstr("  explain "));
}

TEST_F(Program, RefusesLinesThatMakeNoSense) {
  EXPECT_THAT(error(""), StartsWith("deepflow: a command is missing: deepflow "));
  EXPECT_EQ(error("recipe"), "deepflow: a command is missing: deepflow recipe check | explain | reference\n");
  EXPECT_EQ(error("recpie check x.yaml"), "deepflow: recpie is not a command of deepflow; did you mean recipe?\n");
  EXPECT_EQ(error("recipe chekc x.yaml"), "deepflow: chekc is not a command of deepflow recipe; did you mean check?\n");
  EXPECT_EQ(error("--qiet recipe check x.yaml"),
            "deepflow: --qiet is not an option of deepflow recipe check; did you mean --quiet?\n");
  EXPECT_EQ(error("recipe check x.yaml --frobnicate"),
            "deepflow: --frobnicate is not an option of deepflow recipe check; see deepflow recipe check --help\n");
  EXPECT_EQ(error("recipe check"), "deepflow: recipe is required; see deepflow recipe check --help\n");
  EXPECT_EQ(error("recipe reference more"),
            "deepflow: more was not expected by deepflow recipe reference; see deepflow recipe reference --help\n");
  EXPECT_EQ(error("--log-level loud recipe reference"),
            "deepflow: --log-level: loud not in {trace,debug,info,warning,error,off}; see deepflow recipe reference "
            "--help\n");
}

TEST_F(Program, RecipeErrorsAreOneLineWithFileAndLine) {
  EXPECT_EQ(error("recipe check /nowhere/r.yaml"),
            "deepflow: /nowhere/r.yaml: cannot be read: No such file or directory\n");
  EXPECT_EQ(error("recipe check /tmp"), "deepflow: /tmp: cannot be read: Is a directory\n");
  const std::string key = file("key.yaml", "# a recipe\nzzzzzzzzzz: 1\n");
  EXPECT_EQ(error("recipe check " + key), "deepflow: " + key + ":2: zzzzzzzzzz is not a key\n");
  const std::string list = file("list.yaml", "- a\n");
  EXPECT_EQ(error("recipe check " + list), "deepflow: " + list + ":1: a recipe needs a map of keys, got a list\n");
  const std::string twice = file("twice.yaml", "optim: {lr: 1,\n  lr: 2}\n");
  EXPECT_EQ(error("recipe check " + twice),
            "deepflow: " + twice + ":2: optim.lr is given twice; it stands already on line 1\n");
  const std::string invalid = file("invalid.yaml", "a: [1\nb: 2\n");
  EXPECT_EQ(error("recipe check " + invalid),
            "deepflow: " + invalid + ":2: invalid YAML: end of sequence flow not found\n");
  const std::string empty = file("empty.yaml", "");
  EXPECT_EQ(error("recipe check " + empty + " zzzzzzzzzz=1"), "deepflow: command line: zzzzzzzzzz is not a key\n");
  EXPECT_EQ(error("recipe check " + empty + " zzzzzzzzzz"),
            "deepflow: command line: an override is key=value, such as optim.lr=1e-3, got zzzzzzzzzz\n");
  EXPECT_EQ(error("recipe explain zzzzzzzzzz"), "deepflow: zzzzzzzzzz is not a key\n");
}

TEST_F(Program, ShowsPipelineSchedules) {
  EXPECT_THAT(run("schedule list").out, HasSubstr("zb_v"));
  const std::string picture = folder_ / "zb_v.svg";
  const Outcome outcome = run("schedule show --name zb_v --pp 4 --micro-batches 8 --out " + picture);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("step 51, bubble 5.88 %, peak activations 8 of a chunk = 4 of a rank's layers"));
  EXPECT_GT(std::filesystem::file_size(picture), 1000u);
  EXPECT_THAT(run("schedule show --name 1f1b --costs 2,3,1").out, HasSubstr("step 66, bubble 27.27 %"));
  EXPECT_THAT(error("schedule show --name zb_x"), HasSubstr("did you mean zb_v?"));
  EXPECT_THAT(error("schedule show --name zb_v --trace /nowhere/trace.json"), HasSubstr("/nowhere/trace.json"));
}

TEST_F(Program, AFullDiskIsAnError) {
  const Outcome outcome = run("recipe reference > /dev/full");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "deepflow: standard output cannot be written; is its disk full?\n");
}

TEST_F(Program, DebugAddsTheStack) {
  const Outcome outcome = run("recipe check /nowhere/r.yaml --debug");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, StartsWith("deepflow: /nowhere/r.yaml: cannot be read: No such file or directory\n  "));
  EXPECT_THAT(outcome.err, HasSubstr("deepflow::read_recipe("));
}

TEST_F(Program, OneOfSeveralRanksSpeaks) {
  for (const char* launcher : {"OMPI_COMM_WORLD_RANK=0", "PMIX_RANK=0", "SLURM_PROCID=0"}) {
    EXPECT_EQ(run("recipe check /tmp", launcher).err, "deepflow: /tmp: cannot be read: Is a directory\n");
  }
  EXPECT_EQ(run("--version", "PMIX_RANK=1").out, "");
  const Outcome outcome = run("recipe check /tmp", DEEPFLOW_SOURCE "/tests/mpirun 3");
  EXPECT_EQ(outcome.exit_code, 2);
  size_t lines = 0;
  for (size_t at = outcome.err.find("deepflow: "); at != std::string::npos;
       at = outcome.err.find("deepflow: ", at + 1)) {
    ++lines;
  }
  EXPECT_EQ(lines, 1u) << outcome.err;
}

TEST_F(Program, ARankThatIsLeftAloneSpeaksForItself) {
  const Outcome outcome = run("recipe check /tmp", "PMIX_RANK=2");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "deepflow: rank 2: /tmp: cannot be read: Is a directory\n");
}

TEST_F(Program, QuietLeavesResultsOnly) {
  EXPECT_EQ(run("recipe explain").exit_code, 0);
  EXPECT_EQ(run("recipe reference -q").err, "");
  EXPECT_THAT(run("recipe reference").out, StartsWith("# Recipe reference\n"));
}

}  // namespace
}  // namespace deepflow
