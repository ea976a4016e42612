#include "engine/activation_memory.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kF32 = 4;
constexpr int64_t kLogitRows = 512;  // of f32 logits that exist at once (kernels/ops/head_loss.cpp)
constexpr int64_t kAttentionBlock = 64, kHeadPaddedTo = 32;
constexpr int64_t kTransposedColumns = 256;  // by oneDNN 2.6
constexpr int64_t kPaddedTo = 64;            // rows of embedding and head
constexpr int64_t kRingBuffers = 3;          // of one rank's rows (parallel/ops/row_ring.h)

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t divided(int64_t n, int ranks) { return (n + ranks - 1) / ranks; }

// Bytes of this rank's tensors of one micro-batch in one block.
struct Pieces {
  int64_t stream;      // residual stream or its gradient, f32 [M, D]
  int64_t delta;       // what is still to be added to it, [M, D]
  int64_t statistics;  // of one norm
  int64_t normed;      // [M, D]
  int64_t gathered;    // the rows of all tp ranks, where these split them
  int64_t qkv, attended, lse;
  int64_t before_qk_norm;                   // queries and keys as they were
  int64_t before_post_norm;                 // output of attention, and of the MLP
  int64_t wide;                             // in front of the activation: [M, 2F] or [M, F]
  int64_t activated;                        // [M, F]
  int64_t experts_in = 0, experts_out = 0;  // rows of the experts' input and output, [M k, D]
  int64_t routing = 0;                      // scores, choices, weights and slots
  int64_t shared = 0;                       // hidden features of the shared expert, as `activated`
  int64_t router_rows = 0;                  // what the router reads, or its gradient, in f32
  int64_t by_heads;                         // output of attention as Ulysses computes it, [M, A]
  int64_t summands;                         // of the gradient to the rows, before they are summed

  explicit Pieces(const PassShape& s) {
    const ModelShape& m = s.model;
    const auto element = static_cast<int64_t>(size_of(s.compute));
    const int64_t rows = divided(s.rows, s.cp), own_rows = s.sequence_parallel ? divided(rows, s.tp) : rows;
    const int64_t queries = divided(m.heads * m.head_dim, s.tp);
    const int64_t keys = std::max(divided(m.kv_heads * m.head_dim, s.tp), m.head_dim), ffn = divided(m.ffn, s.tp);
    stream = kF32 * own_rows * m.width;
    delta = normed = element * own_rows * m.width;
    gathered = s.sequence_parallel && s.tp > 1 ? element * rows * m.width : 0;
    statistics = kF32 * own_rows * m.row_statistics;
    qkv = element * rows * (queries + 2 * keys);
    attended = element * rows * queries;
    lse = kF32 * rows * divided(m.heads, s.tp);
    before_qk_norm = m.qk_norm ? element * rows * (queries + keys) : 0;
    before_post_norm = m.post_norms ? delta : 0;
    activated = element * rows * ffn;
    wide = m.gated_mlp ? 2 * activated : activated;
    if (m.experts > 0) count_experts(m, rows, element);
    by_heads = s.cp > 1 && s.cp_method == ContextMethod::kUlysses ? attended : 0;
    summands = gathered > 0 && s.overlap ? kRingBuffers * normed : gathered;
  }

  int64_t of_products() const {
    return 2 * (stream + statistics + before_post_norm) + before_qk_norm + qkv + attended + by_heads + lse + wide +
           experts_out + routing;
  }

 private:
  // Nothing is taken to be dropped. Logits are counted with the scores, where the z-loss keeps them.
  void count_experts(const ModelShape& m, int64_t rows, int64_t element) {
    const int64_t slots = rows * m.expert_choices;
    experts_in = experts_out = element * slots * m.width;
    shared = element * rows * m.shared_ffn;
    activated = element * slots * m.expert_ffn + shared;
    wide = 2 * activated;
    routing = kF32 * (2 * rows * m.experts + 4 * slots);
    router_rows = kF32 * rows * m.width;
  }
};

// Rows that attention looks at in one go: those of a zig-zag span in a ring, otherwise of a whole sequence.
int64_t attention_rows(const PassShape& s) {
  return s.cp > 1 && s.cp_method == ContextMethod::kRing ? divided(s.sequence, 2 * s.cp) : s.sequence;
}

// Of attention's backward (kernels/cpu/attention_backward.cpp): every thread lays out one head's rows.
int64_t attention_scratch(const PassShape& s) {
  const auto element = static_cast<int64_t>(size_of(s.compute));
  const int64_t head_dim = round_up(s.model.head_dim, kHeadPaddedTo);
  const int64_t rows = round_up(attention_rows(s), kAttentionBlock);
  const int64_t key_rows = s.model.kv_heads == s.model.heads ? kAttentionBlock : rows;
  const int64_t block = kAttentionBlock * (head_dim * 4 * element + kAttentionBlock * (3 * element + 2 * kF32));
  return s.threads * (rows * (head_dim * (kF32 + 4 * element) + 3 * kF32) + key_rows * head_dim * 2 * kF32 + block);
}

// What the messages of attention's backward take beside what it reads: gradients in f32 and travelling keys and values
// of the ring, or copies on the way between rows and heads.
int64_t attention_messages(const PassShape& s, const Pieces& p) {
  if (s.cp == 1) return 0;
  if (s.cp_method == ContextMethod::kUlysses) return 3 * p.attended;
  const auto element = static_cast<int64_t>(size_of(s.compute));
  const int64_t keys = (p.qkv - p.attended) / element;  // and values: elements
  return kF32 * (p.qkv / element) + 2 * element * keys + kF32 * keys * (s.cp > 2 ? 3 : 2);
}

// Elements of this rank's matrices.
struct Matrices {
  int64_t qkv, out, router, wide, down, table, positions;

  explicit Matrices(const PassShape& s) {
    const ModelShape& m = s.model;
    const int64_t queries = divided(m.heads * m.head_dim, s.tp);
    const int64_t keys = std::max(divided(m.kv_heads * m.head_dim, s.tp), m.head_dim), ffn = divided(m.ffn, s.tp);
    qkv = m.width * (queries + 2 * keys);
    out = m.width * queries;
    router = m.width * m.experts;
    down = m.experts > 0 ? m.width * (m.experts * m.expert_ffn + m.shared_ffn) : m.width * ffn;
    wide = m.gated_mlp ? 2 * down : down;
    table = m.width * divided(round_up(m.vocabulary, kPaddedTo), s.tp);
    positions = m.width * m.position_rows;
  }
  int64_t of_block() const { return qkv + out + router + wide + down; }
};

// Backward of one micro-batch, op by op, as kernels/ops does it: what each takes before it gives back what it read.
class Walk {
 public:
  explicit Walk(const PassShape& s)
      : s_(s),
        p_(s),
        m_(s),
        packs_operands_(s.compute != DType::kF32),
        scratch_(attention_scratch(s)),
        messages_(attention_messages(s, p_)),
        total_gradients_(gradient_elements(s)) {}

  void hold(int64_t bytes) { peak_ = std::max(peak_, now_ += bytes); }
  void drop(int64_t bytes) { now_ -= bytes; }
  int64_t peak() const { return peak_; }

  // Final norm, head and loss. Leaves the gradients of the residual stream and of the last block's output.
  void head() {
    const int64_t rows = divided(s_.rows, s_.cp), vocabulary = m_.table / s_.model.width;
    const int64_t logit_rows = packs_operands_ ? rows : std::min(rows, kLogitRows);
    const int64_t logits = logit_rows * vocabulary * static_cast<int64_t>(size_of(s_.compute));
    const int64_t norm = p_.stream + p_.statistics;
    hold((s_.in_flight - 1) * (norm + whole() + (packs_operands_ ? logits : 0)));
    hold(norm + whole());
    hold(logits + whole());  // and their gradient to the norm's output
    weight_gradient(m_.table, whole(), logits, 0);
    drop(logits + 2 * whole());
    hold(p_.normed + p_.stream);
    drop(norm);
  }

  // is_first: the residual stream that enters is what an embedding made, and there is no delta to add.
  void block(Recompute policy, bool is_first) {
    if (policy == Recompute::kFull) {
      replay(is_first);
      return;
    }
    if (s_.model.experts > 0)
      experts(policy == Recompute::kSelective);
    else
      mlp(policy == Recompute::kSelective);
    attention(policy == Recompute::kSelective);
  }

  void embedding() { gradient(m_.table * (s_.model.tied_head && s_.has_head ? 0 : 1) + m_.positions); }

 private:
  // x is there, or is made again by a pass, and is packed where the product asks for that; every thread transposes
  // some columns of dy.
  void weight_gradient(int64_t elements, int64_t x_bytes, int64_t dy_bytes, int64_t remade) {
    gradient(elements);
    const int64_t columns = kTransposedColumns * s_.threads * static_cast<int64_t>(size_of(s_.compute));
    const int64_t extra =
        remade + (packs_operands_ ? x_bytes : 0) + std::min(dy_bytes, columns * divided(s_.rows, s_.cp));
    hold(extra);
    drop(extra);
  }

  int64_t whole() const { return std::max(p_.normed, p_.gathered); }

  // Of attention itself, whose output's gradient is there; leaves that of its input in the input's place.
  void attend() {
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
  void column_input_gradient() {
    hold(p_.normed + p_.gathered);
    hold(p_.summands);
    drop(p_.summands);
  }

  // Begins and ends with the gradients of the residual stream and of a delta.
  void mlp(bool again) {
    drop(p_.before_post_norm);
    hold(p_.activated + p_.gathered);  // gradient of the activation's output
    weight_gradient(m_.down, p_.activated, whole(), again ? p_.activated : 0);
    drop(p_.delta + p_.gathered + (again ? 0 : p_.activated));
    drop(p_.activated);  // the gradient of its input takes the input's place, or for GELU this one's
    column_input_gradient();
    weight_gradient(m_.wide, whole(), p_.wide, again && !is_dealt() ? p_.normed : 0);
    drop(p_.wide + p_.gathered + (again ? 0 : p_.normed));
    drop(p_.stream + p_.statistics);
  }

  // As mlp, with rows to and from the experts around it. The shared expert goes first; all of its pieces are counted
  // until the others are done.
  void experts(bool again) {
    hold(p_.activated);  // gradients of the activations' outputs
    weight_gradient(m_.down, p_.activated, p_.experts_out, again ? p_.activated : 0);
    drop(again ? 0 : p_.activated);
    drop(p_.activated + p_.experts_out);  // the gradient of their input takes the input's place
    hold(p_.experts_in + p_.normed);      // its gradient, and that of the shared expert
    weight_gradient(m_.wide, p_.experts_in, p_.wide, again ? p_.experts_in : 0);
    drop(p_.wide + (again ? 0 : p_.experts_in));
    hold(p_.normed);
    drop(p_.experts_in + p_.delta + p_.normed);
    hold(p_.router_rows + p_.normed);
    gradient(m_.router);
    drop(p_.router_rows + p_.routing + 2 * p_.normed);
    drop(p_.stream + p_.statistics);
  }

  void attention(bool again) {
    drop(p_.before_post_norm);
    hold(p_.attended + p_.gathered);
    weight_gradient(m_.out, p_.attended, whole(), 0);
    drop(p_.delta + p_.gathered);
    attend();
    drop(2 * p_.attended + p_.lse);  // the gradient takes the place of qkv
    drop(p_.before_qk_norm);
    column_input_gradient();
    weight_gradient(m_.qkv, whole(), p_.qkv, again && !is_dealt() ? p_.normed : 0);
    drop(p_.qkv + p_.gathered + (again ? 0 : p_.normed));
    drop(p_.stream + p_.statistics);
  }

  // Forward again, then all input gradients, then all weight gradients (core/recompute.cpp). Input and output of the
  // block are held until the input gradients are there; gathered rows until their weight gradient.
  void replay(bool is_first) {
    const int64_t dealt = is_dealt() ? p_.normed : 0;  // gives way to gathered rows
    hold(kept_bytes(s_, Recompute::kNone) + p_.delta - (is_first ? p_.stream : 0));
    drop(p_.before_post_norm);
    s_.model.experts > 0 ? replayed_experts_input() : replayed_mlp_input();
    drop(p_.statistics + dealt + p_.before_post_norm);
    hold(p_.attended + p_.gathered);
    attend();
    drop(p_.attended + p_.lse + p_.before_qk_norm);
    column_input_gradient();
    drop(dealt);
    drop(2 * p_.stream + p_.statistics + p_.delta);
    drop(is_first ? 0 : p_.stream + p_.delta);
    s_.model.experts > 0 ? replayed_experts_weight() : replayed_mlp_weight();
    weight_gradient(m_.out, p_.attended, whole(), 0);
    drop(p_.attended + p_.normed + p_.gathered);
    weight_gradient(m_.qkv, whole(), p_.qkv, 0);
    drop(p_.qkv + whole());
  }

  void replayed_mlp_input() {
    hold(p_.activated + p_.gathered);
    drop(p_.activated);
    column_input_gradient();
  }
  void replayed_mlp_weight() {
    weight_gradient(m_.down, p_.activated, whole(), 0);
    drop(p_.activated + p_.delta + p_.gathered);
    weight_gradient(m_.wide, whole(), p_.wide, 0);
    drop(p_.wide + whole());
  }
  void replayed_experts_input() {
    hold(p_.activated);
    drop(p_.activated);
    hold(p_.experts_in + 2 * p_.normed);
    drop(p_.experts_in + p_.normed);
    hold(p_.router_rows + p_.normed);
    drop(p_.router_rows + p_.normed);
  }
  void replayed_experts_weight() {
    weight_gradient(m_.down, p_.activated, p_.experts_out, 0);
    drop(p_.activated + p_.experts_out + p_.delta);
    weight_gradient(m_.wide, p_.experts_in, p_.wide, 0);
    drop(p_.wide + p_.experts_in);
    hold(p_.router_rows);
    gradient(m_.router);
    drop(p_.router_rows + p_.routing + p_.normed);
  }

  bool is_dealt() const { return p_.gathered > 0; }

  void gradient(int64_t elements) {
    contributed_ += elements;
    const int64_t held = std::min(total_gradients_, round_up(contributed_, s_.bucket_elements));
    const bool grows = s_.gradients == GradientMemory::kGrows;
    int64_t bytes = grows ? divided(kF32 * held, s_.gradient_shards) : 0;
    if (s_.gradient_shards > 1) bytes += std::min(s_.travelling_bytes, kF32 * held);
    hold(bytes - held_gradients_);
    held_gradients_ = bytes;
  }

  const PassShape& s_;
  const Pieces p_;
  const Matrices m_;
  const bool packs_operands_;
  const int64_t scratch_, messages_;
  const int64_t total_gradients_;
  int64_t now_ = 0, peak_ = 0, contributed_ = 0, held_gradients_ = 0;
};

// Until one backward is done.
int64_t peak_of_backward(const PassShape& shape, const std::vector<Recompute>& policies) {
  const Pieces p(shape);
  Walk walk(shape);
  for (const Recompute policy : policies) walk.hold(shape.in_flight * kept_bytes(shape, policy));
  const bool begins = shape.layers > 0;  // its first block adds no delta
  if (begins && policies.front() == Recompute::kFull) walk.drop(shape.in_flight * p.delta);
  // Messages under way between the passes: rows that enter and gradients that leave, or only gradients that enter.
  const int64_t messages = !shape.has_embedding ? 2 : !shape.has_head ? 1 : 0;
  if (shape.gradients == GradientMemory::kStays) walk.hold(messages * p.stream);
  if (shape.has_head)
    walk.head();
  else
    walk.hold(p.stream + p.delta);
  for (auto policy = policies.rbegin(); policy != policies.rend(); ++policy)
    walk.block(*policy, begins && policy + 1 == policies.rend());
  if (shape.has_embedding) walk.embedding();
  return walk.peak();
}

}  // namespace

int64_t kept_bytes(const PassShape& shape, Recompute policy) {
  DF_ASSERT(policy != Recompute::kAuto, "a policy that is not decided");
  const Pieces p(shape);
  if (policy == Recompute::kFull) return p.stream + p.delta;
  // What rows for the experts are made of again stays (kernels/ops/expert_rows.h).
  const int64_t again = shape.model.experts > 0 ? p.normed : 0;
  return p.of_products() + (policy == Recompute::kNone ? 2 * p.normed + p.activated + p.experts_in : again);
}

int64_t gradient_elements(const PassShape& shape) {
  const Matrices m(shape);
  const bool own_head = shape.has_head && !(shape.model.tied_head && shape.has_embedding);
  return shape.layers * m.of_block() + (shape.has_embedding ? m.table + m.positions : 0) + (own_head ? m.table : 0);
}

int64_t peak_activation_bytes(const PassShape& shape, const std::vector<Recompute>& policies) {
  DF_ASSERT(static_cast<int64_t>(policies.size()) == shape.layers, "{} policies for {} layers", policies.size(),
            shape.layers);
  const int64_t first = peak_of_backward(shape, policies);
  if (shape.gradients == GradientMemory::kStays || shape.in_flight == 1) return first;
  PassShape second = shape;  // one micro-batch less, but gradients
  second.gradients = GradientMemory::kStays;
  --second.in_flight;
  const int64_t gradients = divided(kF32 * gradient_elements(shape), shape.gradient_shards);
  return std::max(first, gradients + peak_of_backward(second, policies));
}

}  // namespace deepflow
