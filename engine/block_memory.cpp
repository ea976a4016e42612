#include "engine/block_memory.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr int64_t kF32 = 4, kI32 = 4, kI64 = 8;
constexpr int64_t kAttentionBlock = 64, kHeadPaddedTo = 32;
constexpr int64_t kPaddedTo = 64;    // rows of embedding and head
constexpr int64_t kRingBuffers = 3;  // of one rank's rows (parallel/ops/row_ring.h)

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t divided(int64_t n, int ranks) { return (n + ranks - 1) / ranks; }

// Columns of this rank's heads.
struct HeadColumns {
  int64_t queries, keys, values, out;
  explicit HeadColumns(const PassShape& s)
      : queries(divided(s.model.heads * s.model.head_dim, s.tp)),
        keys(std::max(divided(s.model.kv_heads * s.model.head_dim, s.tp), s.model.head_dim)),
        values(std::max(divided(s.model.kv_heads * s.model.value_dim, s.tp), s.model.value_dim)),
        out(divided(s.model.heads * s.model.value_dim, s.tp)) {}
};

// Rows that attention looks at in one go: those of a zig-zag span in a ring, otherwise of a whole sequence.
int64_t attention_rows(const PassShape& s) {
  return s.cp > 1 && s.cp_method == ContextMethod::kRing ? divided(s.sequence, 2 * s.cp) : s.sequence;
}

}  // namespace

BlockTensors::BlockTensors(const PassShape& s) {
  const ModelShape& m = s.model;
  const auto element = static_cast<int64_t>(size_of(s.compute));
  const int64_t rows = divided(s.rows, s.cp), own_rows = s.sequence_parallel ? divided(rows, s.tp) : rows;
  const HeadColumns columns(s);
  const int64_t ffn = divided(m.ffn, s.tp);
  stream = kF32 * own_rows * m.width;
  delta = normed = element * own_rows * m.width;
  gathered = s.sequence_parallel && s.tp > 1 ? element * rows * m.width : 0;
  statistics = kF32 * own_rows * m.row_statistics;
  qkv = element * rows * (columns.queries + columns.keys + columns.values);
  attended = element * rows * columns.out;
  lse = kF32 * rows * divided(m.heads, s.tp);
  before_qk_norm = m.qk_norm ? element * rows * (columns.queries + columns.keys) : 0;
  before_post_norm = m.post_norms ? delta : 0;
  activated = element * rows * ffn;
  wide = m.gated_mlp ? 2 * activated : activated;
  if (m.latent_rank > 0) count_latent_rows(s, rows);
  if (m.experts > 0) count_experts(s, rows);
  // The rows of a sequence that are here are picked from it: tokens, labels, positions and where documents begin.
  ids = rows * (kI64 + (s.cp > 1 ? 4 * kI32 : 0));
  by_heads = s.cp > 1 && s.cp_method == ContextMethod::kUlysses ? attended : 0;
  summands = gathered > 0 && s.overlap ? kRingBuffers * normed : gathered;
}

int64_t BlockTensors::of_products() const {
  return 2 * (stream + statistics + before_post_norm + query_latent + key_latent) + latent_statistics + before_qk_norm +
         qkv + attended + by_heads + lse + wide + sent_rows + routing;
}

void BlockTensors::count_latent_rows(const PassShape& s, int64_t rows) {
  const ModelShape& m = s.model;
  const auto element = static_cast<int64_t>(size_of(s.compute));
  query_latent = element * rows * m.query_rank;
  key_latent = element * rows * m.latent_rank;
  down = query_latent + key_latent + element * rows * m.rope_dim;
  queries_up = element * rows * divided(m.heads * m.head_dim, s.tp);
  keys_up = element * rows * divided(m.heads * (m.head_dim - m.rope_dim + m.value_dim), s.tp);
  latent_statistics = kF32 * rows * (m.query_rank > 0 ? 2 : 1);
}

// Nothing is taken to be dropped. Logits are counted with the scores, where the z-loss keeps them. Every rank sends
// the rows that it was dealt.
void BlockTensors::count_experts(const PassShape& s, int64_t rows) {
  const ModelShape& m = s.model;
  const auto element = static_cast<int64_t>(size_of(s.compute));
  const int64_t own_rows = divided(rows, s.tp), slots = own_rows * m.expert_choices * s.etp;
  const auto here = static_cast<int64_t>(std::ceil(s.expert_load.front() * static_cast<double>(slots)));
  sent_rows = element * slots * m.width;
  expert_rows = element * here * m.width;
  activated = element * (here * divided(m.expert_ffn, s.etp) + rows * divided(m.shared_ffn, s.tp));
  wide = 2 * activated;
  routing = kF32 * (2 * own_rows * m.experts + 4 * slots) + (s.expert_ranks > 1 ? 3 * kI32 * here : 0);
  router_rows = kF32 * own_rows * m.width;
}

BlockMatrices::BlockMatrices(const PassShape& s) {
  const ModelShape& m = s.model;
  const HeadColumns columns(s);
  const int64_t ffn = divided(m.ffn, s.tp);
  qkv = m.width * (columns.queries + columns.keys + columns.values);
  out = m.width * columns.out;
  if (m.latent_rank > 0) {
    qkv = m.width * (m.query_rank + m.latent_rank + m.rope_dim);
    queries_up = (m.query_rank > 0 ? m.query_rank : m.width) * columns.queries;
    keys_up = m.latent_rank * divided(m.heads * (m.head_dim - m.rope_dim + m.value_dim), s.tp);
  }
  router = m.width * m.experts;
  down = m.experts > 0 ? m.width * (divided(m.experts * m.expert_ffn, s.expert_ranks) + divided(m.shared_ffn, s.tp))
                       : m.width * ffn;
  wide = m.gated_mlp ? 2 * down : down;
  table = m.width * (s.table_rows > 0 ? s.table_rows : round_up(divided(m.vocabulary, s.tp), kPaddedTo));
  positions = m.width * m.position_rows;
}

int64_t forward_bytes(const PassShape& s, const BlockTensors& p, Recompute policy) {
  const int64_t input = s.model.experts > 0 ? p.expert_rows : p.normed;
  // Results of experts on their way: as they were computed, as they are sent, and as they come back.
  const int64_t results = s.expert_ranks > 1 ? 2 * p.expert_rows : 0;
  if (policy == Recompute::kNone) return results;
  if (policy == Recompute::kSelective) return input + std::max(p.activated, results);
  const int64_t coming = s.model.experts > 0 ? p.sent_rows : 0;
  const int64_t in_front = p.stream + p.normed + input;
  return in_front + std::max(p.wide + p.activated + input, results + coming);
}

int64_t attention_scratch(const PassShape& s) {
  const auto element = static_cast<int64_t>(size_of(s.compute));
  const int64_t head = round_up(s.model.head_dim, kHeadPaddedTo), value = round_up(s.model.value_dim, kHeadPaddedTo);
  const int64_t rows = round_up(attention_rows(s), kAttentionBlock);
  const int64_t key_rows = s.model.kv_heads == s.model.heads ? kAttentionBlock : rows;
  const int64_t of_block = (2 * head + value + std::max(head, value)) * element;  // keys twice, values, a stage
  const int64_t block = kAttentionBlock * (of_block + kAttentionBlock * (3 * element + 2 * kF32));
  const int64_t of_row = head * kF32 + 2 * (head + value) * element + 3 * kF32;
  return s.threads * (rows * of_row + key_rows * (head + value) * kF32 + block);
}

int64_t attention_messages(const PassShape& s, const BlockTensors& p) {
  if (s.cp == 1) return 0;
  if (s.cp_method == ContextMethod::kUlysses) return 3 * p.attended;
  const auto element = static_cast<int64_t>(size_of(s.compute));
  const HeadColumns columns(s);
  const int64_t keys = p.qkv / element / (columns.queries + columns.keys + columns.values) *
                       (columns.keys + columns.values);  // and values: elements
  return kF32 * (p.qkv / element) + 2 * element * keys + kF32 * keys * (s.cp > 2 ? 3 : 2);
}

}  // namespace deepflow
