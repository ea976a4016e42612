#include "engine/backward_memory.h"

#include "kernels/ops/grouped_panels.h"

#include <algorithm>
#include <utility>

namespace deepflow {
namespace {

constexpr int64_t kF32 = 4;
constexpr int64_t kLogitRows = 512;          // of f32 logits that exist at once (kernels/ops/head_loss.cpp)
constexpr int64_t kTransposedColumns = 256;  // by oneDNN 2.6

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t rows_here(const PassShape& s) { return (s.rows + s.cp - 1) / s.cp; }

bool keeps_logits(const PassShape& s) { return s.compute == DType::kBF16; }

int64_t logit_bytes(const PassShape& s, const BlockMatrices& m) {
  const int64_t rows = keeps_logits(s) ? rows_here(s) : std::min(rows_here(s), kLogitRows);
  return rows * (m.table / s.model.width) * static_cast<int64_t>(size_of(s.compute));
}

}  // namespace

int64_t head_kept_bytes(const PassShape& s) {
  const BlockTensors p(s);
  const int64_t of_rows = 3 * kF32 * rows_here(s);  // weights, losses and log-sum-exps
  return p.stream + p.statistics + std::max(p.normed, p.gathered) + of_rows +
         (keeps_logits(s) ? logit_bytes(s, BlockMatrices(s)) : 0);
}

int64_t mtp_kept_bytes(const PassShape& s, Recompute policy) {
  const BlockTensors p(s);
  const int64_t entry = p.stream + p.statistics + 2 * p.normed;    // the embedding, and what the projection reads
  const int64_t next = 2 * kF32 * rows_here(s);                    // tokens and labels of the rows behind
  const int64_t delta = policy == Recompute::kFull ? p.delta : 0;  // there is none to add
  return entry + next + kept_bytes(s, policy) - delta + head_kept_bytes(s);
}

int64_t mtp_gradient_elements(const PassShape& s, bool has_embedding) {
  if (s.model.mtp == 0) return 0;
  const BlockMatrices m(s);
  const bool own_table = !has_embedding && !s.model.tied_head;
  return m.of_block() + 2 * s.model.width * s.model.width + (own_table ? m.table : 0);
}

// x is packed where the product asks for that; every thread transposes some columns of dy.
int64_t weight_gradient_scratch(const PassShape& s, int64_t x_bytes, int64_t dy_bytes) {
  const int64_t columns = kTransposedColumns * s.threads * static_cast<int64_t>(size_of(s.compute));
  return (s.compute != DType::kF32 ? x_bytes : 0) + std::min(dy_bytes, columns * rows_here(s));
}

GradientGrowth::GradientGrowth(const PassShape& s)
    : bucket_elements_(s.bucket_elements),
      elements_(std::max<int64_t>(1, gradient_elements(s))),
      bytes_(s.gradient_bytes > 0 ? s.gradient_bytes : kF32 * elements_),
      most_travelling_(s.travelling_bytes) {}

int64_t GradientGrowth::contribute(int64_t elements, bool is_first) {
  const int64_t before = bytes();
  if (is_first) contributed_ += elements;
  of_pass_ += elements;
  const int64_t whole = std::min(elements_, round_up(contributed_, bucket_elements_));
  held_ =
      static_cast<int64_t>(static_cast<double>(bytes_) * static_cast<double>(whole) / static_cast<double>(elements_));
  travelling_ = std::min(most_travelling_, kF32 * std::min(elements_, round_up(of_pass_, bucket_elements_)));
  return bytes() - before;
}

int64_t GradientGrowth::end_pass() {
  of_pass_ = 0;
  return std::exchange(travelling_, 0);
}

BackwardMemory::BackwardMemory(const PassShape& s, const ChunkShape& chunk, std::span<const PassShape> layers,
                               const std::vector<Recompute>& policies, Halves halves, bool is_first,
                               GradientGrowth& gradients)
    : s_(s),
      p_(s),
      m_(s),
      halves_(halves),
      is_first_(is_first),
      packs_operands_(s.compute != DType::kF32),
      scratch_(attention_scratch(s)),
      messages_(attention_messages(s, p_)),
      gradients_(gradients) {
  const bool ahead = chunk.has_head && s.model.mtp > 0;
  if (ahead) mtp(layers.back(), policies.back());
  if (chunk.has_head)
    head(ahead);
  else
    hold(p_.stream + p_.delta);
  if (ahead) drop(p_.normed);  // the gradient that the module had for the head's input
  for (size_t i = policies.size(); i-- > 0;) block(layers[i], policies[i], i == 0);
  if (chunk.has_embedding) embedding();
}

// Of what a weight gradient has read, given back behind it.
void BackwardMemory::later(int64_t bytes) {
  if (splits())
    put_off_.back().waiting += bytes;
  else
    drop(bytes);
}

void BackwardMemory::gradient(int64_t elements) {
  if (splits())
    put_off_.push_back({elements, 0, 0});
  else
    hold(gradients_.contribute(elements, is_first_));
}

// x is there, or is made again by a pass.
void BackwardMemory::weight_gradient(int64_t elements, int64_t x_bytes, int64_t dy_bytes, int64_t remade) {
  weight_gradient_of(elements, remade + weight_gradient_scratch(s_, x_bytes, dy_bytes));
}

void BackwardMemory::weight_gradient_of(int64_t elements, int64_t extra) {
  gradient(elements);
  if (splits()) {
    put_off_.back().extra = extra;
    return;
  }
  hold(extra);
  drop(extra);
}

void BackwardMemory::expert_gradient(int64_t elements, int64_t remade) {
  const int64_t features = s_.model.expert_ffn / s_.etp;
  weight_gradient_of(elements, remade + grouped_panel_scratch(s_.compute, s_.model.width, features, s_.threads));
}

void BackwardMemory::input_form(int64_t elements) {
  if (!s_.makes_forms_again) return;
  const int64_t bytes = elements * static_cast<int64_t>(size_of(s_.compute == DType::kF16 ? DType::kF32 : s_.compute));
  hold(bytes);
  drop(bytes);
}

// Final norm, head and loss. Leaves the gradients of the residual stream and of the last block's output.
// has_gradient: a reading of the head that backward met before has begun its gradient.
void BackwardMemory::head(bool has_gradient) {
  const int64_t logits = logit_bytes(s_, m_), norm = p_.stream + p_.statistics;
  const int64_t table = has_gradient ? 0 : m_.table;
  hold((keeps_logits(s_) ? 0 : logits) + whole());  // and their gradient to the norm's output
  input_form(m_.table);
  if (keeps_logits(s_)) {
    weight_gradient(table, whole(), logits, 0);
    later(logits + whole());
  } else {  // both gradients at once
    const int64_t extra = weight_gradient_scratch(s_, whole(), logits);
    hold(gradients_.contribute(table, is_first_) + extra);
    drop(extra + logits + whole());
  }
  drop(whole());
  hold(p_.normed + p_.stream);
  drop(norm);
}

// Multi-token prediction, all of which comes before the main head. Leaves the gradient of the head's input.
void BackwardMemory::mtp(const PassShape& layer, Recompute policy) {
  head(false);
  block(layer, policy, true);
  drop(p_.normed);  // no delta enters
  const bool is_cast = packs_operands_;
  if (is_cast) {
    hold(p_.normed);
    drop(p_.stream);
  }
  const int64_t projection = 2 * s_.model.width * s_.model.width;
  hold(2 * p_.normed);
  input_form(projection);
  weight_gradient(projection, 2 * p_.normed, p_.normed, 0);
  later(2 * p_.normed + (is_cast ? p_.normed : p_.stream));
  hold(2 * p_.normed);  // both halves
  drop(2 * p_.normed);
  hold(p_.stream);  // gradient of the embedding
  drop(p_.normed + p_.stream + p_.statistics);
  gradient(s_.model.tied_head ? 0 : m_.table);
  later(p_.stream);
}

// is_first: the residual stream that enters is what an embedding made, or another chunk, and there is no delta to add.
void BackwardMemory::block(const PassShape& layer, Recompute policy, bool is_first) {
  p_ = BlockTensors(layer);
  m_ = BlockMatrices(layer);
  if (policy == Recompute::kFull) {
    replay(layer, is_first);
    return;
  }
  const bool again = policy == Recompute::kSelective;
  if (layer.model.experts > 0)
    experts(again);
  else
    mlp(again);
  attention(again);
}

void BackwardMemory::embedding() {
  const bool is_read_before = (s_.model.tied_head || s_.model.mtp > 0) && s_.chunks.back().has_head;
  gradient(m_.table * (is_read_before ? 0 : 1) + m_.positions);
  if (splits()) later(p_.stream);
}

// Of attention itself, whose output's gradient is there; leaves that of its input in the input's place.
void BackwardMemory::attend() {
  if (p_.by_heads > 0) {
    hold(messages_);
    drop(messages_ + p_.by_heads);  // the output by rows
    hold(scratch_);
    drop(scratch_);
    hold(2 * p_.qkv);
    drop(2 * p_.qkv);
  } else {
    hold(messages_ + scratch_);
    drop(messages_ + scratch_);
  }
}

// Gradient to the input of a product with cut outputs: rows are gathered again, or their sums are on their way.
void BackwardMemory::column_input_gradient(int64_t elements) {
  hold(p_.normed + p_.gathered);
  input_form(elements);
  hold(p_.summands);
  drop(p_.summands);
}

// Of latent attention: from the gradient of queries, keys and values as attention reads them to that of the latent
// rows, side by side. Norms work in their gradients' place.
void BackwardMemory::leave_latent_rows() {
  hold(p_.queries_up + p_.keys_up);
  drop(p_.qkv);
  const auto up = [&](int64_t elements, int64_t latent, int64_t gradient_bytes) {
    hold(latent);
    input_form(elements);
    weight_gradient(elements, latent, gradient_bytes, 0);
    later(latent + gradient_bytes);
    drop(latent);  // what was normed
  };
  up(m_.keys_up, p_.key_latent, p_.keys_up);
  if (p_.query_latent > 0) up(m_.queries_up, p_.query_latent, p_.queries_up);
  drop(p_.latent_statistics);
  hold(p_.down);
  drop(p_.key_latent + p_.query_latent);
}

// Begins and ends with the gradients of the residual stream and of a delta. What is to be made again holds what it is
// made from, and an activation's input then has a gradient beside it instead of in its place.
void BackwardMemory::mlp(bool again) {
  drop(p_.before_post_norm);
  hold(p_.activated + p_.gathered);  // gradient of the activation's output
  input_form(m_.down);
  weight_gradient(m_.down, p_.activated, whole(), again ? p_.activated : 0);
  later(p_.delta + p_.gathered + (again ? 0 : p_.activated));
  if (splits() && again) hold(p_.wide), later(p_.wide);
  drop(p_.activated);  // the gradient of its input takes the input's place, or for GELU this one's
  column_input_gradient(m_.wide);
  weight_gradient(m_.wide, whole(), p_.wide, again && !is_dealt() ? p_.normed : 0);
  later(p_.wide + p_.gathered + (again || is_dealt() ? 0 : p_.normed));
  if (is_dealt() && !again) drop(p_.normed);
  again && !is_dealt() ? later(p_.stream) : drop(p_.stream);
  drop(p_.statistics);
}

// The gradient of the experts' outputs: across the ranks, and sorted by expert again. Takes the outputs' place.
void BackwardMemory::return_to_experts() {
  drop(p_.delta - of_shared(p_.delta));
  if (!is_sent()) return;
  hold(p_.expert_rows);
  drop(p_.sent_rows);
  hold(p_.expert_rows);
  drop(p_.expert_rows);
}

// From the gradient of the experts' input to that of the normed rows.
void BackwardMemory::leave_experts(int64_t kept) {
  if (is_sent()) {
    hold(p_.expert_rows);
    drop(p_.expert_rows);
    hold(p_.sent_rows);
    drop(p_.expert_rows);
  }
  hold(p_.normed);
  drop((is_sent() ? p_.sent_rows : p_.expert_rows) + kept);
}

// As mlp, with rows to and from the experts around it. The shared expert goes first; all of its pieces are counted
// until the others are done.
void BackwardMemory::experts(bool again) {
  drop(p_.before_post_norm);
  return_to_experts();
  hold(p_.activated);  // gradients of the activations' outputs
  input_form(m_.down);
  expert_gradient(m_.down, again ? p_.activated : 0);
  later(p_.expert_rows + (again ? 0 : p_.activated));
  if (splits() && again) hold(p_.wide), later(p_.wide);
  drop(p_.activated);                           // the gradient of their input takes the input's place
  hold(p_.expert_rows + of_shared(p_.normed));  // its gradient, and that of the shared expert
  input_form(m_.wide);
  expert_gradient(m_.wide, again ? p_.expert_rows : 0);
  later(p_.wide + (again && !is_sent() ? 0 : p_.expert_rows));
  leave_experts(of_shared(p_.delta + p_.normed));
  hold(p_.router_rows + p_.normed);
  gradient(m_.router);
  later(p_.normed);
  drop(p_.router_rows + p_.routing + p_.normed);
  drop(p_.stream + p_.statistics);
}

void BackwardMemory::attention(bool again) {
  drop(p_.before_post_norm);
  hold(p_.attended + p_.gathered);
  input_form(m_.out);
  weight_gradient(m_.out, p_.attended, whole(), 0);
  later(p_.delta + p_.gathered + p_.attended);
  attend();
  drop(p_.attended + p_.lse);  // the gradient takes the place of qkv
  drop(p_.before_qk_norm);
  const bool is_latent = s_.model.latent_rank > 0;
  if (is_latent) leave_latent_rows();
  const int64_t rows = is_latent ? p_.down : p_.qkv;
  column_input_gradient(m_.qkv);
  weight_gradient(m_.qkv, whole(), rows, again && !is_dealt() ? p_.normed : 0);
  later(rows + p_.gathered + (again || is_dealt() ? 0 : p_.normed));
  if (is_dealt() && !again) drop(p_.normed);
  again && !is_dealt() ? later(p_.stream) : drop(p_.stream);
  drop(p_.statistics);
}

// Forward again, then all input gradients, then all weight gradients (core/recompute.cpp). Input and output of the
// block are held until the input gradients are there; gathered rows until their weight gradient.
void BackwardMemory::replay(const PassShape& layer, bool is_first) {
  const int64_t dealt = is_dealt() ? p_.normed : 0;  // gives way to gathered rows
  const bool has_experts = layer.model.experts > 0;
  hold(kept_bytes(layer, Recompute::kNone) + p_.delta - (is_first ? p_.stream : 0));
  drop(p_.before_post_norm);
  if (has_experts) return_to_experts();
  hold(p_.activated + (has_experts ? 0 : p_.gathered));
  input_form(m_.down);
  drop(p_.activated);
  if (has_experts) {
    hold(p_.expert_rows + of_shared(p_.normed));
    leave_experts(of_shared(p_.normed));
    hold(p_.router_rows + p_.normed);
    drop(p_.router_rows + p_.normed);
  } else {
    column_input_gradient(m_.wide);
  }
  drop(p_.statistics + (has_experts ? 0 : dealt) + p_.before_post_norm);
  hold(p_.attended + p_.gathered);
  input_form(m_.out);
  attend();
  drop(p_.attended + p_.lse + p_.before_qk_norm);
  const bool is_latent = s_.model.latent_rank > 0;
  if (is_latent) {
    hold(p_.queries_up + p_.keys_up);
    drop(p_.qkv);
    hold(p_.down);
    drop(p_.key_latent + p_.query_latent + p_.latent_statistics);
  }
  column_input_gradient(m_.qkv);
  drop(dealt);
  drop(2 * p_.stream + p_.statistics + p_.delta);
  drop(is_first ? 0 : p_.stream + p_.delta);
  if (has_experts) {
    expert_gradient(m_.down, 0);
    later(p_.activated + p_.expert_rows + of_shared(p_.delta));
    expert_gradient(m_.wide, 0);
    later(p_.wide + p_.expert_rows);
    weight_gradient_of(m_.router, p_.router_rows);
    later(p_.routing + p_.normed);
  } else {
    weight_gradient(m_.down, p_.activated, whole(), 0);
    later(p_.activated + p_.delta + p_.gathered);
    weight_gradient(m_.wide, whole(), p_.wide, 0);
    later(p_.wide + whole());
  }
  weight_gradient(m_.out, p_.attended, whole(), 0);
  later(p_.attended + p_.normed + p_.gathered);
  if (is_latent) {
    weight_gradient(m_.keys_up, p_.key_latent, p_.keys_up, 0);
    later(p_.keys_up + p_.key_latent);
    weight_gradient(m_.queries_up, p_.query_latent, p_.queries_up, 0);
    later(p_.queries_up + p_.query_latent);
  }
  weight_gradient(m_.qkv, whole(), is_latent ? p_.down : p_.qkv, 0);
  later((is_latent ? p_.down : p_.qkv) + whole());
}

}  // namespace deepflow
