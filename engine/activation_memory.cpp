#include "engine/activation_memory.h"

#include "core/error.h"
#include "engine/backward_memory.h"
#include "engine/block_memory.h"

#include <algorithm>
#include <map>
#include <utility>

namespace deepflow {
namespace {

// A rank's step, action by action.
class StepMemory {
 public:
  StepMemory(const PassShape& shape, const std::vector<Recompute>& policies)
      : s_(shape), stream_(BlockTensors(shape).stream), gradients_(shape) {
    auto first = policies.begin();
    for (const ChunkShape& chunk : shape.chunks) {
      Chunk c{chunk, {first, first + chunk.layers}, 0, 0, true, {}};
      for (const Recompute policy : c.policies) c.kept += kept_bytes(shape, policy);
      const BlockTensors p(shape);
      if (chunk.layers > 0 && c.policies.front() == Recompute::kFull) c.kept -= p.delta;  // it adds none
      c.kept += p.ids;
      c.most_forward = c.kept + (chunk.layers > 0 ? forward_bytes(shape, p, c.policies.back()) : 0);
      if (chunk.has_head) c.kept += head_kept_bytes(shape);
      if (chunk.has_head && shape.model.mtp > 0) c.kept += mtp_kept_bytes(shape, c.policies.back());
      chunks_.emplace(chunk.id, std::move(c));
      first += chunk.layers;
    }
  }

  int64_t peak() const { return peak_; }

  void operator()(const Action& a) {
    if (a.what == Do::kRecvF || a.what == Do::kRecvB) hold(stream_);
    if (!is_compute(a.what)) return;
    const int64_t sent = std::exchange(sending_, 0);  // under way during this one
    for (const ComputePart& part : parts_of(a)) {
      Chunk& chunk = chunks_.at(part.chunk);
      if (part.f) forward(chunk);
      if (part.b) backward(chunk, part.w);
      if (part.w && !part.b) weight_gradients(chunk);
    }
    drop(sent);
  }

 private:
  struct Chunk {
    ChunkShape shape;
    std::vector<Recompute> policies;
    int64_t kept;          // of one micro-batch
    int64_t most_forward;  // in its last block
    bool is_first;         // no gradient yet
    std::vector<PutOff> put_off;
  };

  void hold(int64_t bytes) { peak_ = std::max(peak_, now_ += bytes); }
  void drop(int64_t bytes) { now_ -= bytes; }
  bool is_here(int chunk) const { return chunks_.count(chunk) > 0; }

  // To a chunk of this rank by hand, otherwise as a message that leaves while the next action runs.
  void pass_on(int chunk) {
    hold(stream_);
    if (!is_here(chunk)) sending_ += stream_;
  }

  // What came in is the residual stream that the first block keeps.
  void forward(Chunk& chunk) {
    if (!chunk.shape.has_embedding) drop(stream_);
    hold(chunk.most_forward);
    drop(chunk.most_forward);
    hold(chunk.kept);
    if (!chunk.shape.has_head) pass_on(chunk.shape.id + 1);
  }

  void backward(Chunk& chunk, bool whole) {
    if (!chunk.shape.has_head) drop(stream_);
    const auto halves = whole ? BackwardMemory::Halves::kBoth : BackwardMemory::Halves::kInput;
    const int64_t gradients = gradients_.bytes();
    const BackwardMemory pass(s_, chunk.shape, chunk.policies, halves, chunk.is_first, gradients_);
    peak_ = std::max(peak_, now_ + pass.peak());
    drop(chunk.kept - (gradients_.bytes() - gradients));
    if (whole) end_gradients(chunk);
    chunk.put_off = pass.put_off();
    for (const PutOff& p : chunk.put_off) hold(p.waiting);
    if (!chunk.shape.has_embedding) pass_on(chunk.shape.id - 1);
  }

  void weight_gradients(Chunk& chunk) {
    for (const PutOff& p : chunk.put_off) {
      hold(gradients_.contribute(p.elements, chunk.is_first) + p.extra);
      drop(p.extra + p.waiting);
    }
    end_gradients(chunk);
  }

  void end_gradients(Chunk& chunk) {
    drop(gradients_.end_pass());
    chunk.is_first = false;
  }

  const PassShape& s_;
  const int64_t stream_;
  GradientGrowth gradients_;
  std::map<int, Chunk> chunks_;
  int64_t now_ = 0, peak_ = 0, sending_ = 0;
};

const std::vector<Action> kOnePass = {{Do::kF}, {Do::kBW}};

}  // namespace

int64_t PassShape::layers() const {
  int64_t sum = 0;
  for (const ChunkShape& chunk : chunks) sum += chunk.layers;
  return sum;
}

int64_t kept_bytes(const PassShape& shape, Recompute policy) {
  DF_ASSERT(policy != Recompute::kAuto, "a policy that is not decided");
  const BlockTensors p(shape);
  if (policy == Recompute::kFull) return p.stream + p.delta;
  if (policy == Recompute::kNone) return p.of_products() + 2 * p.normed + p.activated + p.expert_rows;
  if (shape.model.experts == 0) return p.of_products();
  // What rows for the experts are made of again stays (kernels/ops/expert_rows.h): the normed rows, or what has come.
  // Dealt rows are a part of all normed rows, which then stay as well.
  if (shape.expert_ranks == 1) return p.of_products() + p.normed;
  return p.of_products() + p.expert_rows + (shape.tp > 1 && !shape.sequence_parallel ? p.normed : 0);
}

int64_t gradient_elements(const PassShape& shape) {
  const BlockMatrices m(shape);
  const bool has_embedding = shape.chunks.front().has_embedding, has_head = shape.chunks.back().has_head;
  const bool own_head = has_head && !(shape.model.tied_head && has_embedding);
  return shape.layers() * m.of_block() + (has_embedding ? m.table + m.positions : 0) + (own_head ? m.table : 0) +
         (has_head ? mtp_gradient_elements(shape, has_embedding) : 0);
}

int64_t peak_activation_bytes(const PassShape& shape, const std::vector<Recompute>& policies) {
  DF_ASSERT(static_cast<int64_t>(policies.size()) == shape.layers(), "{} policies for {} layers", policies.size(),
            shape.layers());
  StepMemory step(shape, policies);
  for (const Action& action : shape.actions.empty() ? kOnePass : shape.actions) step(action);
  return step.peak();
}

}  // namespace deepflow
