#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

// What a rank does next in a pipeline step.
enum class Do : uint8_t {
  kF,          // forward of (chunk, micro_batch)
  kB,          // its input gradient
  kW,          // its weight gradient
  kBW,         // both, node by node
  kOverlapFB,  // kF of (chunk, micro_batch) woven with kBW of (b_chunk, b_micro_batch)
  kSendF,      // the output of (chunk, micro_batch) goes to the rank of chunk + 1
  kRecvF,      // the input of (chunk, micro_batch) comes from the rank of chunk - 1
  kSendB,      // the input's gradient goes to the rank of chunk - 1
  kRecvB,      // the output's gradient comes from the rank of chunk + 1
  kGather,     // parameters of the chunk are about to be read (ZeRO-3)
  kFree,       // and are not needed any more for now
  kReduce,     // gradients of the chunk are complete
};

struct Action {
  Do what;
  int chunk = 0, micro_batch = 0;
  int b_chunk = -1, b_micro_batch = -1;  // kOverlapFB
  friend bool operator==(const Action&, const Action&) = default;
};
inline bool is_compute(Do what) { return what <= Do::kOverlapFB; }

// "F c0 m3", "B c0 m3", "W ...", "BW ...", "F c0 m3 + BW c1 m2", "send F c0 m3", "gather c0", "reduce c0 m7", ... Spans
// of a trace carry these names; the names of compute actions can be read back, others give nothing.
std::string name_of(const Action& action);
std::optional<Action> compute_action_named(std::string_view name);

// The parts of a compute action; F, B and W say which of the three happen in it.
struct ComputePart {
  int chunk = 0, micro_batch = 0;
  bool f = false, b = false, w = false;
};
std::vector<ComputePart> parts_of(const Action& compute);  // two for kOverlapFB, F first

// A pipeline schedule is a value: which rank holds which chunk of the model (chunk 0 embeds, the last one has the
// head), and what every rank does, in order. "Rank" is the place on the pp axis.
struct Schedule {
  std::vector<int> rank_of_chunk;
  std::vector<std::vector<Action>> of_rank;
  int num_micro_batches = 0;

  int num_ranks() const { return static_cast<int>(of_rank.size()); }
  int num_chunks() const { return static_cast<int>(rank_of_chunk.size()); }
  int rank_of(int chunk) const { return rank_of_chunk[static_cast<size_t>(chunk)]; }
  std::vector<int> chunks_of(int rank) const;  // ascending
  // Whether chunk and chunk + 1 sit on different ranks, so that what passes between them is a message.
  bool has_border_after(int chunk) const { return chunk + 1 < num_chunks() && rank_of(chunk) != rank_of(chunk + 1); }
};

// The forwards of a compute-only schedule, in its order: what evaluation runs.
Schedule forward_only(const Schedule& compute_only);

}  // namespace deepflow
