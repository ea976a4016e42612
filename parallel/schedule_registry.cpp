#include "parallel/schedule_registry.h"

#include "core/error.h"
#include "parallel/schedules/dualpipev.h"
#include "parallel/schedules/gpipe.h"
#include "parallel/schedules/interleaved_1f1b.h"
#include "parallel/schedules/one_f_one_b.h"
#include "parallel/schedules/zb_h1.h"
#include "parallel/schedules/zb_v.h"

namespace deepflow {
namespace {

constexpr ScheduleKind kKinds[] = {
    {"gpipe", "Huang et al. 2019, GPipe", 1, 1, false, make_gpipe},
    {"1f1b", "Narayanan et al. 2019, PipeDream, with a flush", 1, 1, false, make_1f1b},
    {"interleaved_1f1b", "Narayanan et al. 2021, Megatron-LM, section 2.2.2", 1, 0, false, make_interleaved_1f1b},
    {"zb_h1", "Qi et al. 2023, Zero Bubble Pipeline Parallelism, ZB-H1", 1, 1, false, make_zb_h1},
    {"zb_v", "Qi et al. 2024, Pipeline Parallelism with Controllable Memory, ZB-V", 2, 2, true, make_zb_v},
    {"dualpipev", "DeepSeek-AI 2025, DualPipeV", 2, 2, true, make_dualpipev},
};

bool takes(const ScheduleKind& kind, int chunks) {
  return chunks >= kind.min_chunks && (kind.max_chunks == 0 || chunks <= kind.max_chunks);
}

[[noreturn]] void refuse_chunks(const ScheduleKind& kind, int chunks) {
  std::vector<std::string> others;
  for (const ScheduleKind& other : kKinds)
    if (takes(other, chunks)) others.emplace_back(other.name);
  throw ConfigError(
      "parallel.vp: schedule {} cuts the model into {} {} chunk{} a rank, got {}; leave parallel.vp out{}", kind.name,
      kind.max_chunks == 0 ? "at least" : "exactly", kind.min_chunks, kind.min_chunks == 1 ? "" : "s", chunks,
      others.empty() ? "" : fmt::format(", or take parallel.schedule {}", fmt::join(others, " or ")));
}

}  // namespace

std::span<const ScheduleKind> schedule_kinds() { return kKinds; }

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const ScheduleKind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

const ScheduleKind& schedule_kind(std::string_view name) {
  for (const ScheduleKind& kind : kKinds)
    if (name == kind.name) return kind;
  const std::vector<std::string> names = schedule_names();
  throw ConfigError("there is no pipeline schedule {}{}; there are {}", name,
                    nearest_name_hint(std::string(name), names), fmt::join(names, ", "));
}

Schedule make_schedule(std::string_view name, int num_ranks, int chunks_per_rank, int num_micro_batches) {
  const ScheduleKind& kind = schedule_kind(name);
  if (num_ranks < 1)
    throw ConfigError("parallel.pp: expected at least 1 rank for schedule {}, got {}", name, num_ranks);
  if (num_micro_batches < 1)
    throw ConfigError("schedule {}: expected at least 1 micro-batch a step, got {}", name, num_micro_batches);
  const int chunks = chunks_per_rank == 0 ? kind.min_chunks : chunks_per_rank;
  if (!takes(kind, chunks)) refuse_chunks(kind, chunks);
  return kind.make(num_ranks, chunks, num_micro_batches);
}

}  // namespace deepflow
