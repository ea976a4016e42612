#include "launch/command_doctor.h"

#include "engine/doctor.h"
#include "launch/cli.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <memory>
#include <string>

namespace deepflow {
namespace {

struct DoctorArguments {
  DoctorOptions options;
  bool as_json = false, no_measurements = false;
};

int run_doctor(const DoctorArguments& arguments, World& world) {
  DoctorOptions options = arguments.options;
  options.measure = !arguments.no_measurements;
  const nlohmann::json report = examine(world, options);
  if (world.rank() == 0)
    std::fputs(arguments.as_json ? (report.dump() + "\n").c_str() : doctor_text(report).c_str(), stdout);
  return 0;
}

}  // namespace

void add_doctor_command(Cli& cli) {
  const auto arguments = std::make_shared<DoctorArguments>();
  CLI::App* command = cli.add_command(
      "doctor", "report and measure what this machine, or a job's machines, give to work with",
      [arguments] { return run_world({}, [&](World& world) { return run_doctor(*arguments, world); }); });
  command->add_flag("--json", arguments->as_json, "one JSON object");
  command->add_flag("--no-measurements", arguments->no_measurements, "report only what can be told at once");
  command->add_option("--threads", arguments->options.threads, "compute threads of a rank; 0: its share of the host")
      ->check(CLI::Range(0, 4096));
}

}  // namespace deepflow
