#include "launch/command_schedule.h"

#include "core/durable_file.h"
#include "core/error.h"
#include "engine/measured_schedule.h"
#include "engine/schedule_picture.h"
#include "launch/cli.h"
#include "parallel/schedule_lowering.h"
#include "parallel/schedule_registry.h"
#include "parallel/schedule_simulator.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

namespace deepflow {
namespace {

struct ShowArguments {
  std::string name, trace, out;
  int pp = 4, vp = 0, micro_batches = 8, zero = 0;
  std::vector<double> costs = {1, 1, 1};
  double message = 0, overlap = 1, released_by_b = 0;
};

SimulationCosts costs_of(const ShowArguments& arguments) {
  for (const double cost : arguments.costs)
    if (cost < 0) throw ConfigError("--costs: expected times of at least 0, got {}", cost);
  SimulationCosts costs;
  costs.chunks = {{arguments.costs[0], arguments.costs[1], arguments.costs[2]}};
  costs.message = arguments.message;
  costs.overlap = arguments.overlap;
  costs.released_by_b = arguments.released_by_b;
  return costs;
}

// Rows of one rank each. `measured` is null without a trace.
void print_table(const Schedule& schedule, const Simulation& planned, const ScheduleTimes* measured) {
  fmt::print("{:>4}  {:<12} {:>9} {:>9} {:>12} {:>10} {:>9}{}\n", "rank", "chunks", "busy", "bubble %", "idle inside",
             "peak acts", "messages", measured ? "   measured %" : "");
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    const size_t r = static_cast<size_t>(rank);
    fmt::print("{:>4}  {:<12} {:>9.5g} {:>9.2f} {:>12.5g} {:>10.5g} {:>9}", rank,
               fmt::format("{}", fmt::join(schedule.chunks_of(rank), " ")), planned.times.busy(rank),
               100 * planned.times.bubble(rank), planned.times.idle_inside(rank), planned.peak_activations[r],
               planned.messages_sent[r]);
    if (measured) fmt::print(" {:>12.2f}", 100 * measured->bubble(rank));
    fmt::print("\n");
  }
}

void print_summary(const Simulation& planned, const ScheduleTimes* measured, int chunks_per_rank) {
  const double peak = *std::max_element(planned.peak_activations.begin(), planned.peak_activations.end());
  fmt::print("step {:.5g}, bubble {:.2f} %, peak activations {:.5g} of a chunk = {:.5g} of a rank's layers\n",
             planned.times.duration(), 100 * planned.times.bubble(), peak, peak / chunks_per_rank);
  if (!measured) return;
  const double expected = planned.times.bubble(), got = measured->bubble();
  fmt::print("measured: step {:.5g} ms, bubble {:.2f} %", measured->duration() / 1000, 100 * got);
  if (expected > 0) fmt::print(", {:+.1f} % of the planned bubble", 100 * (got / expected - 1));
  fmt::print("\n");
}

int show(const ShowArguments& arguments) {
  const ScheduleKind& kind = schedule_kind(arguments.name);
  const Schedule lowered =
      lower(make_schedule(arguments.name, arguments.pp, arguments.vp, arguments.micro_batches), arguments.zero);
  const Simulation planned = simulate(lowered, costs_of(arguments), arguments.zero);
  DF_ASSERT(planned.error.empty(), "{}", planned.error);
  std::optional<ScheduleTimes> measured;
  if (!arguments.trace.empty()) measured = read_measured_schedule(arguments.trace, lowered);
  const ScheduleTimes* const times = measured ? &*measured : nullptr;

  const int chunks_per_rank = lowered.num_chunks() / lowered.num_ranks();
  const std::string title =
      fmt::format("{}: {} ranks, {} chunk{} each, {} micro-batches, F {:g} B {:g} W {:g}", kind.name, arguments.pp,
                  chunks_per_rank, chunks_per_rank > 1 ? "s" : "", arguments.micro_batches, arguments.costs[0],
                  arguments.costs[1], arguments.costs[2]);
  fmt::print("{}\n{}\n", title, kind.source);
  print_table(lowered, planned, times);
  print_summary(planned, times, chunks_per_rank);
  if (arguments.out.empty()) return 0;
  std::vector<SchedulePanel> panels = {{"planned", planned.times, 1, ""}};
  if (measured) panels.push_back({"measured", *measured, 1000, "ms"});
  write_file_durably(arguments.out, schedule_as_svg(title, lowered, panels));
  return 0;
}

int list() {
  for (const ScheduleKind& kind : schedule_kinds())
    fmt::print("{:<17} {:<20} {}\n", kind.name,
               kind.max_chunks == 0 ? fmt::format("{} or more chunks", kind.min_chunks)
                                    : fmt::format("{} chunk{}", kind.min_chunks, kind.min_chunks > 1 ? "s" : ""),
               kind.source);
  return 0;
}

void add_show(Cli& cli, CLI::App* schedule) {
  const auto arguments = std::make_shared<ShowArguments>();
  CLI::App* command = cli.add_command(
      "show", "bubble, memory and messages of a schedule, and its picture", [arguments] { return show(*arguments); },
      schedule);
  command->add_option("--name", arguments->name, "schedule; see deepflow schedule list")->required()->type_name("NAME");
  command->add_option("--pp", arguments->pp, "ranks of the pipeline")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--vp", arguments->vp, "chunks per rank; 0: as few as the schedule can do with")
      ->check(CLI::Range(0, 1024));
  command->add_option("--micro-batches", arguments->micro_batches, "micro-batches of a step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("--costs", arguments->costs, "time of forward, input gradient and weight gradient of a chunk")
      ->delimiter(',')
      ->expected(3)
      ->type_name("F,B,W")
      ->default_str("1,1,1");
  command->add_option("--message", arguments->message, "time that a message takes")->check(CLI::NonNegativeNumber);
  command->add_option("--overlap", arguments->overlap, "time of a woven pair, in that of its parts one after the other")
      ->check(CLI::PositiveNumber);
  command->add_option("--released-by-b", arguments->released_by_b, "share of the activations that B gives back")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--zero", arguments->zero, "parallel.zero that the lists are lowered for")
      ->check(CLI::Range(0, 3));
  command->add_option("--trace", arguments->trace, "trace of a run with this schedule, drawn below")->type_name("FILE");
  command->add_option("--out", arguments->out, "picture to write")->type_name("FILE.svg");
}

}  // namespace

void add_schedule_command(Cli& cli) {
  CLI::App* schedule = cli.add_command("schedule", "pipeline schedules: figures and pictures", nullptr);
  add_show(cli, schedule);
  cli.add_command("list", "the schedules there are", list, schedule);
}

}  // namespace deepflow
