#include "engine/measured_schedule.h"

#include "core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>

namespace deepflow {
namespace {

nlohmann::json read_events(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw StorageError("{}: cannot be opened; train with log.trace_from to get one", path);
  nlohmann::json trace = nlohmann::json::parse(file, nullptr, false);
  if (trace.is_object() && trace.contains("traceEvents")) trace = trace["traceEvents"];
  if (!trace.is_array()) throw DataError("{}: expected a Chrome trace with \"traceEvents\"", path);
  return trace;
}

struct Traced {
  int num_ranks = 0;
  std::vector<std::vector<TimedAction>> of_rank;  // compute actions of the world's ranks
};

Traced actions_of(const nlohmann::json& events, const std::string& path) {
  Traced traced;
  try {
    for (const nlohmann::json& event : events) {
      const int rank = event.at("pid").get<int>();
      if (rank < 0 || rank > 1 << 20) throw DataError("{}: process {} is no rank", path, rank);
      traced.num_ranks = std::max(traced.num_ranks, rank + 1);
      traced.of_rank.resize(static_cast<size_t>(traced.num_ranks));
      if (event.at("ph").get<std::string>() != "X") continue;
      const auto action = compute_action_named(event.at("name").get<std::string>());
      if (!action) continue;
      const double begin = event.at("ts").get<double>();
      traced.of_rank[static_cast<size_t>(rank)].push_back({*action, begin, begin + event.at("dur").get<double>()});
    }
  } catch (const nlohmann::json::exception& error) {
    throw DataError("{}: an event is not as Trace Event Format has it: {}", path, error.what());
  }
  return traced;
}

// The first step of a rank, checked against what it should have done.
std::vector<TimedAction> first_step(std::vector<TimedAction> actions, const std::vector<Action>& planned, int rank,
                                    const std::string& path) {
  std::stable_sort(actions.begin(), actions.end(),
                   [](const TimedAction& a, const TimedAction& b) { return a.begin < b.begin; });
  if (actions.size() < planned.size())
    throw DataError(
        "{}: pipeline rank {} has {} spans of compute actions, its schedule {}; is it the trace of another "
        "schedule?",
        path, rank, actions.size(), planned.size());
  actions.resize(planned.size());
  for (size_t i = 0; i < planned.size(); ++i)
    if (!(actions[i].action == planned[i]))
      throw DataError("{}: pipeline rank {} ran {} where its schedule has {}; is it the trace of another schedule?",
                      path, rank, name_of(actions[i].action), name_of(planned[i]));
  return actions;
}

}  // namespace

ScheduleTimes read_measured_schedule(const std::string& trace_path, const Schedule& planned) {
  const Traced traced = actions_of(read_events(trace_path), trace_path);
  const int num_stages = planned.num_ranks();
  if (traced.num_ranks == 0 || traced.num_ranks % num_stages != 0)
    throw DataError("{}: {} traced ranks are no multiple of {} pipeline ranks", trace_path, traced.num_ranks,
                    num_stages);
  ScheduleTimes times;
  for (int rank = 0; rank < num_stages; ++rank) {
    std::vector<Action> compute;
    for (const Action& a : planned.of_rank[static_cast<size_t>(rank)])
      if (is_compute(a.what)) compute.push_back(a);
    const int process = rank * (traced.num_ranks / num_stages);
    times.of_rank.push_back(first_step(traced.of_rank[static_cast<size_t>(process)], compute, rank, trace_path));
  }
  const double start = times.begin();
  for (std::vector<TimedAction>& list : times.of_rank)
    for (TimedAction& a : list) {
      a.begin -= start;
      a.end -= start;
    }
  return times;
}

}  // namespace deepflow
