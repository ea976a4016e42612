#include "launch/cli.h"

#include "core/error.h"
#include "core/log.h"
#include "launch/cli_environment.h"
#include "launch/command_ckpt.h"
#include "launch/command_data.h"
#include "launch/command_doctor.h"
#include "launch/command_eval.h"
#include "launch/command_generate.h"
#include "launch/command_probe.h"
#include "launch/command_recipe.h"
#include "launch/command_schedule.h"
#include "launch/command_train.h"

#include <cstdio>
#include <new>
#include <vector>

namespace deepflow {
namespace {

// Every command, in the order of `deepflow --help`.
constexpr void (*kCommands[])(Cli&) = {
    add_train_command, add_eval_command,   add_generate_command, add_probe_command,    add_data_command,
    add_ckpt_command,  add_doctor_command, add_recipe_command,   add_schedule_command,
};

// The innermost command that was named on the line.
const CLI::App* named_command(const CLI::App& app) {
  const std::vector<CLI::App*> below = app.get_subcommands();
  return below.empty() ? &app : named_command(*below.front());
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() ? full_name(*app.get_parent()) + " " + app.get_name() : app.get_name();
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names = app.get_parent() ? option_names(*app.get_parent()) : std::vector<std::string>();
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

// One line about what is wrong with the command line, better than the parser's own where it guesses less.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = *named_command(app);
  const std::string name = full_name(command);
  const std::vector<std::string> rest = app.remaining(true), commands = command_names(command);
  const std::string help = fmt::format("; see {} --help", name);
  if (!rest.empty() && rest.front().starts_with("-")) {
    const std::string near = nearest_name_hint(rest.front(), option_names(command));
    return fmt::format("{} is not an option of {}{}", rest.front(), name, near.empty() ? help : near);
  }
  if (!commands.empty()) {
    if (rest.empty()) return fmt::format("a command is missing: {} {}", name, fmt::join(commands, " | "));
    const std::string near = nearest_name_hint(rest.front(), commands);
    return fmt::format("{} is not a command of {}{}", rest.front(), name, near.empty() ? help : near);
  }
  if (!rest.empty()) return fmt::format("{} was not expected by {}{}", rest.front(), name, help);
  return fmt::format("{}{}", error.what(), help);
}

}  // namespace

Cli::Cli() : app_("DeepFlow trains and fine-tunes large language models on any MPI cluster.", "deepflow") {
  app_.require_subcommand(1);
  app_.set_version_flag("--version", std::string("deepflow ") + DEEPFLOW_VERSION);
  app_.add_flag("--debug", debug_, "print the stack with an error");
  app_.add_flag("-q,--quiet", quiet_, "log warnings and errors only");
  app_.add_option("--log-level", log_level_, "what is logged to stderr")
      ->type_name("LEVEL")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "off"}))
      ->capture_default_str();
}

CLI::App* Cli::add_command(const std::string& name, const std::string& help, std::function<int()> run,
                           CLI::App* parent) {
  CLI::App* command = (parent ? parent : &app_)->add_subcommand(name, help);
  command->fallthrough();  // --debug and --quiet are understood behind the command too
  if (run) {
    command->callback([this, run = std::move(run)] { chosen_ = run; });
  } else {
    command->require_subcommand(1);
  }
  return command;
}

int Cli::run(int argc, char** argv) {
  const LaunchEnvironment environment = launch_environment();
  try {
    app_.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return environment.rank == 0 ? app_.exit(request) : 0;
  } catch (const CLI::ParseError& error) {
    return report_error(usage_error(app_, error), 2);
  }
  start_logging(environment.rank, environment.world_size,
                quiet_ ? spdlog::level::warn : spdlog::level::from_str(log_level_));
  if (debug_) {
    report_uncaught_with_stack();
    return run_chosen();
  }
  try {
    return run_chosen();
  } catch (const Error& error) {
    return report_error(error.what(), 2);
  } catch (const std::bad_alloc&) {
    return report_error("out of memory", 2);
  } catch (const std::exception& error) {
    return report_error(fmt::format("internal error: {}; --debug shows where", error.what()), 3);
  }
}

int Cli::run_chosen() {
  const int exit_code = chosen_();
  const bool flushed = std::fflush(stdout) == 0;
  if (!flushed || std::ferror(stdout)) throw StorageError("standard output cannot be written; is its disk full?");
  return exit_code;
}

int run_cli(int argc, char** argv) {
  Cli cli;
  for (const auto add : kCommands) add(cli);
  return cli.run(argc, argv);
}

}  // namespace deepflow
