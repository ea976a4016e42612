#pragma once

#include "parallel/schedule.h"

#include <span>
#include <string>
#include <string_view>

namespace deepflow {

// Every pipeline schedule by name. A new one is a file in schedules/ and a line in schedule_registry.cpp.
struct ScheduleKind {
  const char* name;
  const char* source;          // the paper
  int min_chunks, max_chunks;  // that a rank may hold; max 0: any number
  bool v_shaped;               // embedding and head are on the same rank, the first
  Schedule (*make)(int num_ranks, int chunks_per_rank, int num_micro_batches);
};
std::span<const ScheduleKind> schedule_kinds();
std::vector<std::string> schedule_names();

// ConfigError with the nearest name when there is none of this name.
const ScheduleKind& schedule_kind(std::string_view name);

// Compute actions only: kF, kB, kW, kBW, kOverlapFB; lower() adds the rest. Every number of micro-batches from 1 on
// works with every schedule; fewer than the pipeline is long leave more of it idle. On one rank every schedule is
// forward and backward of one micro-batch after another. chunks_per_rank 0: as few as the schedule can do with.
// ConfigError for numbers that the schedule cannot work with.
Schedule make_schedule(std::string_view name, int num_ranks, int chunks_per_rank, int num_micro_batches);

}  // namespace deepflow
