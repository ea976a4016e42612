#pragma once

#include "parallel/schedule_times.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

struct ChunkCost {
  double f = 1, b = 1, w = 1;  // time of forward, input gradient, weight gradient of a micro-batch
};

struct SimulationCosts {
  std::vector<ChunkCost> chunks = {ChunkCost()};  // one for each chunk of the model, or one for all
  double message = 0;                             // from the later of send and receive until it is there
  double overlap = 1;        // kOverlapFB takes so much of the time of its parts one after the other
  double released_by_b = 0;  // share of a chunk's activations that B gives back; the rest goes with W
};

struct Simulation {
  std::string error;    // empty: the lists are proven. Otherwise one line: what, on which rank, at which action
  ScheduleTimes times;  // every action, until the error
  // Per rank, in activations of one chunk and micro-batch, held from F until W.
  std::vector<double> peak_activations;
  std::vector<int64_t> messages_sent;  // per rank
};

enum class Pass : uint8_t { kTraining, kForward };

// Runs the lowered lists of all ranks against each other and proves that
// - no rank waits for ever;
// - F, B and W of every chunk and micro-batch run exactly once, on the rank that holds the chunk, F behind F of the
//   chunk before, B behind B of the chunk behind and its own F, W behind its B;
// - every tensor that crosses ranks is sent once, behind the action that makes it, and received once, by a receive that
//   was posted before its reader, and the k-th send of a channel (parallel/schedule_lowering.h) is its k-th receive;
// - with zero_level 3 parameters are gathered when F or B reads them, never twice, and free at the end;
// - gradients are reduced behind the chunk's last weight gradient, or with zero_level >= 2 once behind each.
// Of a forward_only schedule it proves the same of F, and that nothing else runs; activations are then not counted.
// Sends and receives take no time of the rank.
Simulation simulate(const Schedule& lowered, const SimulationCosts& costs = {}, int zero_level = 0,
                    Pass pass = Pass::kTraining);

}  // namespace deepflow
