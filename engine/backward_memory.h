#pragma once

#include "engine/activation_memory.h"
#include "engine/block_memory.h"

#include <cstdint>
#include <span>
#include <vector>

namespace deepflow {

// Memory of gradients over a step: bucket by bucket at the first contribution, then it stays. Where they are cut, some
// are whole for a while besides, in every pass.
class GradientGrowth {
 public:
  explicit GradientGrowth(const PassShape& shape);
  // What comes on top when a weight gradient is added. is_first: of its chunk in this step.
  int64_t contribute(int64_t elements, bool is_first);
  int64_t end_pass();  // what is given back then
  int64_t bytes() const { return held_ + travelling_; }

 private:
  int64_t bucket_elements_, elements_, bytes_, most_travelling_;
  int64_t contributed_ = 0, held_ = 0, of_pass_ = 0, travelling_ = 0;
};

// A weight gradient that is put off: what is made and held while it runs, and what waits for it.
struct PutOff {
  int64_t elements, extra, waiting;
};

// Backward of one chunk and micro-batch, op by op, as kernels/ops does it: what each takes before it gives back what it
// read. Counts from the moment in which it begins, when its activations are there.
class BackwardMemory {
 public:
  enum class Halves : uint8_t { kBoth, kInput };
  // layers: layer_shapes of those of the chunk.
  BackwardMemory(const PassShape& shape, const ChunkShape& chunk, std::span<const PassShape> layers,
                 const std::vector<Recompute>& policies, Halves halves, bool is_first, GradientGrowth& gradients);

  int64_t peak() const { return peak_; }
  const std::vector<PutOff>& put_off() const { return put_off_; }  // kInput only

 private:
  void hold(int64_t bytes) { peak_ = std::max(peak_, now_ += bytes); }
  void drop(int64_t bytes) { now_ -= bytes; }
  void later(int64_t bytes);
  bool splits() const { return halves_ == Halves::kInput; }
  bool is_dealt() const { return p_.gathered > 0; }
  bool is_sent() const { return s_.expert_ranks > 1; }
  // Where there is a shared expert: the gradient of the layer's output waits for it, and it makes one of the input.
  int64_t of_shared(int64_t bytes) const { return s_.model.shared_ffn > 0 ? bytes : 0; }
  int64_t whole() const { return std::max(p_.normed, p_.gathered); }

  void gradient(int64_t elements);
  void weight_gradient(int64_t elements, int64_t x_bytes, int64_t dy_bytes, int64_t remade);
  void weight_gradient_of(int64_t elements, int64_t extra);
  void expert_gradient(int64_t elements, int64_t remade);
  void input_form(int64_t elements);
  void attend();
  void leave_latent_rows();
  void column_input_gradient(int64_t elements);
  void return_to_experts();
  void leave_experts(int64_t kept);

  void head(bool has_gradient);
  void mtp(const PassShape& layer, Recompute policy);
  void block(const PassShape& layer, Recompute policy, bool is_first);
  void mlp(bool again);
  void experts(bool again);
  void attention(bool again);
  void replay(const PassShape& layer, bool is_first);
  void embedding();

  const PassShape& s_;
  BlockTensors p_;  // of the block that it is at, as the next
  BlockMatrices m_;
  const Halves halves_;
  const bool is_first_, packs_operands_;
  const int64_t scratch_, messages_;
  GradientGrowth& gradients_;
  std::vector<PutOff> put_off_;
  int64_t now_ = 0, peak_ = 0;
};

// What the head keeps of a micro-batch, with the norm in front of it.
int64_t head_kept_bytes(const PassShape& shape);
// What multi-token prediction keeps of a micro-batch besides: its entry, its block, its head.
int64_t mtp_kept_bytes(const PassShape& shape, Recompute policy);
// Elements of the gradients that it adds to those of a last stage with or without the model's first chunk.
int64_t mtp_gradient_elements(const PassShape& shape, bool has_embedding);
// What a product's weight gradient makes for itself.
int64_t weight_gradient_scratch(const PassShape& shape, int64_t x_bytes, int64_t dy_bytes);

}  // namespace deepflow
