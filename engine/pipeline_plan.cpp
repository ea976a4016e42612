#include "engine/pipeline_plan.h"

#include "parallel/schedule_lowering.h"
#include "parallel/schedule_registry.h"
#include "parallel/schedule_simulator.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr int kManyPassesAStage = 4;

std::string schedule_name(const ParallelOptions& o) {
  if (!o.schedule.empty()) return o.schedule;
  return o.vp > 1 ? "interleaved_1f1b" : "1f1b";
}

}  // namespace

Schedule plan_pipeline(const ParallelOptions& o, int num_micro_batches) {
  return lower(make_schedule(schedule_name(o), o.pp, o.vp, num_micro_batches), o.zero);
}

std::vector<int> chunk_stages(const ParallelOptions& o) {
  return make_schedule(schedule_name(o), o.pp, o.vp, kManyPassesAStage * o.pp).rank_of_chunk;
}

std::string describe_pipeline(const ParallelOptions& o, int num_micro_batches) {
  const Schedule schedule = plan_pipeline(o, num_micro_batches);
  const int chunks = schedule.num_chunks() / schedule.num_ranks();
  return fmt::format("{}, {} stages x {} chunk{}, layers {}, planned bubble {:.0f} %", schedule_name(o),
                     schedule.num_ranks(), chunks, chunks > 1 ? "s" : "", fmt::join(o.layers, " "),
                     100 * simulate(schedule, {}, o.zero).times.bubble());
}

Schedule plan_forward(const std::vector<int>& rank_of_chunk, int num_stages, int num_micro_batches) {
  Schedule schedule;
  schedule.rank_of_chunk = rank_of_chunk;
  schedule.num_micro_batches = num_micro_batches;
  schedule.of_rank.resize(static_cast<size_t>(num_stages));
  for (int m = 0; m < num_micro_batches; ++m)
    for (int chunk = 0; chunk < schedule.num_chunks(); ++chunk)
      schedule.of_rank[static_cast<size_t>(rank_of_chunk[static_cast<size_t>(chunk)])].push_back({Do::kF, chunk, m});
  // A micro-batch begins whenever a stage has gone through all its chunks once; in between they are at different ones.
  const int chunks = schedule.num_chunks() / num_stages;
  const auto begin = [chunks](const Action& a) { return a.micro_batch * chunks + a.chunk; };
  for (std::vector<Action>& list : schedule.of_rank)
    std::stable_sort(list.begin(), list.end(), [&](const Action& a, const Action& b) { return begin(a) < begin(b); });
  return lower(schedule, 0);
}

}  // namespace deepflow
