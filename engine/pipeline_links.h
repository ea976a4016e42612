#pragma once

#include "core/tensor.h"
#include "parallel/communicator.h"

#include <map>
#include <memory>
#include <vector>

namespace deepflow {

// The ways between pipeline stages. Every (sender, receiver, kind) has a communicator of its own, so that neither a
// receive that was posted early nor a message that nobody fetches yet stands before another one.
class PipelineLinks {
 public:
  enum class Kind : uint8_t { kActivation, kGradient };

  // stages: the ranks of the pp axis, which outlives this. rank_of_chunk: which of them has each chunk. Collective.
  PipelineLinks(Communicator& stages, std::vector<int> rank_of_chunk);

  int stage() const { return stage_; }
  int num_stages() const { return num_stages_; }
  int num_chunks() const { return static_cast<int>(rank_of_chunk_.size()); }
  int stage_of(int chunk) const { return rank_of_chunk_[static_cast<size_t>(chunk)]; }
  const std::vector<int>& rank_of_chunk() const { return rank_of_chunk_; }
  std::vector<int> own_chunks() const;

  // The k-th send of a kind to a stage meets the k-th receive there.
  WorkPtr send(Kind kind, int to, const Tensor& value);
  WorkPtr receive(Kind kind, int from, const Tensor& into);
  int64_t bytes_sent() const;

 private:
  using Way = std::pair<int, int>;  // from, to
  Communicator& way(Kind kind, Way way) { return *ways_.at({kind, way}); }

  const int stage_, num_stages_;
  const std::vector<int> rank_of_chunk_;
  std::map<std::pair<Kind, Way>, std::unique_ptr<Communicator>> ways_;  // those of this rank
};

}  // namespace deepflow
