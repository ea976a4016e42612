#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>

namespace deepflow {

// The command line of `deepflow`. Each command is one file, launch/command_NAME.cpp, with a function
// add_NAME_command(Cli&) that stands in the list at the top of cli.cpp.
class Cli {
 public:
  Cli();

  // A command below `parent` (the program itself when null). `run` is called once the whole line has been understood;
  // what it returns is the exit code. A command that only groups others has no `run`.
  CLI::App* add_command(const std::string& name, const std::string& help, std::function<int()> run,
                        CLI::App* parent = nullptr);

  // The exit code: 0, what the command returned, 2 for an Error or a line that makes no sense, 3 for anything else.
  // An error is one line on stderr. Before the ranks are connected they cannot agree on who speaks: rank 0 does so at
  // once; the others wait for five seconds, in which a launcher ends the job, and then speak for themselves.
  int run(int argc, char** argv);

 private:
  int run_chosen();

  CLI::App app_;
  std::function<int()> chosen_;
  bool debug_ = false, quiet_ = false;
  std::string log_level_ = "info";
};

// The program: every command registered, parsed and run.
int run_cli(int argc, char** argv);

}  // namespace deepflow
