#include "engine/activation_memory.h"

#include "core/error.h"
#include "engine/backward_memory.h"
#include "engine/block_memory.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

namespace deepflow {
namespace {

// A rank's step, action by action.
class StepMemory {
 public:
  StepMemory(const PassShape& shape, const std::vector<Recompute>& policies)
      : s_(shape), layers_(layer_shapes(shape)), stream_(BlockTensors(shape).stream), gradients_(shape) {
    size_t first = 0;
    for (const ChunkShape& chunk : shape.chunks) {
      const auto count = static_cast<size_t>(chunk.layers);
      const auto begin = policies.begin() + static_cast<std::ptrdiff_t>(first);
      Chunk c{chunk, std::span(layers_).subspan(first, count), {begin, begin + chunk.layers}, 0, 0, true, {}};
      count_kept(c);
      chunks_.emplace(chunk.id, std::move(c));
      first += count;
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
    std::span<const PassShape> layers;
    std::vector<Recompute> policies;
    int64_t kept;          // of one micro-batch
    int64_t most_forward;  // with what its blocks take beside it
    bool is_first;         // no gradient yet
    std::vector<PutOff> put_off;
  };

  void count_kept(Chunk& c) const {
    const BlockTensors p(s_);
    c.kept = c.most_forward = p.ids;
    if (!c.policies.empty() && c.policies.front() == Recompute::kFull) c.kept -= p.delta;  // it adds none
    for (size_t i = 0; i < c.layers.size(); ++i) {
      const PassShape& layer = c.layers[i];
      c.kept += kept_bytes(layer, c.policies[i]);
      c.most_forward = std::max(c.most_forward, c.kept + forward_bytes(layer, BlockTensors(layer), c.policies[i]));
    }
    if (c.shape.has_head) c.kept += head_kept_bytes(s_);
    if (c.shape.has_head && s_.model.mtp > 0) c.kept += mtp_kept_bytes(c.layers.back(), c.policies.back());
  }

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
    const BackwardMemory pass(s_, chunk.shape, chunk.layers, chunk.policies, halves, chunk.is_first, gradients_);
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
  const std::vector<PassShape> layers_;
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

std::vector<PassShape> layer_shapes(const PassShape& shape) {
  const size_t loads = shape.expert_load.size();
  DF_ASSERT(loads == 1 || static_cast<int64_t>(loads) == shape.layers(), "{} loads of {} layers", loads,
            shape.layers());
  PassShape layer = shape;
  layer.chunks.clear();
  layer.actions.clear();
  std::vector<PassShape> layers;
  for (const ChunkShape& chunk : shape.chunks)
    for (int64_t i = 0; i < chunk.layers; ++i) {
      layer.model.experts = chunk.first + i < shape.model.dense_layers ? 0 : shape.model.experts;
      layer.expert_load = {shape.expert_load[loads == 1 ? 0 : layers.size()]};
      layers.push_back(layer);
    }
  return layers;
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
  int64_t of_blocks = 0;
  for (const PassShape& layer : layer_shapes(shape)) of_blocks += BlockMatrices(layer).of_block();
  return of_blocks + (has_embedding ? m.table + m.positions : 0) + (own_head ? m.table : 0) +
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
