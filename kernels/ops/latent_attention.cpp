#include "kernels/ops/latent_attention.h"

#include "core/error.h"
#include "kernels/cpu/latent_rows.h"
#include "kernels/ops/attention_groups.h"
#include "kernels/ops/compute_type.h"
#include "kernels/ops/elementwise.h"

#include <memory>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

int64_t qkv_width(const LatentHeads& h) { return h.heads * (2 * h.key_dim() + h.value_dim); }

void check_matrix(const Tensor& x, int64_t rows, int64_t cols, const char* name) {
  DF_ASSERT(x.rows() == rows && x.cols() == cols, "{} {}: expected {} x {}", name, x.shape().to_string(), rows, cols);
}

cpu::PairRotation pair_rotation(const Tensor& positions, const RopeTable& table) {
  return {2 * table.cos.cols(), positions.data<int32_t>(), table.cos.data<float>(), table.sin.data<float>()};
}

// What the op's rows are, and their gradients'.
struct Layout {
  LatentHeads heads;
  RopeTable table;
  Tensor positions;
};

template <class T>
cpu::LatentRows<T> latent_rows_of(const Layout& l, const Tensor& q, const Tensor& kv, const Tensor& k_rope,
                                  const Tensor& qkv) {
  return {l.heads.heads, l.heads.nope_dim, l.heads.value_dim, pair_rotation(l.positions, l.table),
          q.data<T>(),   kv.data<T>(),     k_rope.data<T>(),  qkv.data<T>(),
          q.ld(),        kv.ld(),          k_rope.ld(),       qkv.ld()};
}

class LatentQkvNode final : public Node {
 public:
  explicit LatentQkvNode(Layout layout) : layout_(std::move(layout)) {}
  const char* name() const override { return "latent_qkv"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& runtime = context.runtime;
    const Tensor& dqkv = out[0].value;
    const LatentHeads& h = layout_.heads;
    const auto gradient = [&](int64_t cols) {
      return Tensor::empty(runtime.memory(), {dqkv.rows(), cols}, dqkv.dtype());
    };
    Tensor dq = gradient(h.heads * h.key_dim()), dkv = gradient(h.heads * h.up_dim()), dk_rope = gradient(h.rope_dim);
    with_compute_type(dqkv.dtype(), [&](auto t) {
      using T = decltype(t);
      auto* kernel = DF_KERNEL(runtime.isa(), latent_rows_gradient<T>);
      const auto rows = latent_rows_of<T>(layout_, dq, dkv, dk_rope, dqkv);
      runtime.pool().parallel_for(dqkv.rows(), 1, [&](int64_t begin, int64_t end) { kernel(rows, begin, end); });
    });
    layout_ = {};
    std::vector<Grad> gradients;
    for (Tensor* t : {&dq, &dkv, &dk_rope}) gradients.push_back({std::move(*t), nullptr});
    return gradients;
  }

 private:
  Layout layout_;
};

// The products with kv_up: f(thread, head, begin, end) over heads and rows.
template <class F>
void for_heads_and_rows(Runtime& runtime, int64_t heads, int64_t rows, F&& f) {
  constexpr int64_t kLeastRows = 16;
  if (rows == 0) return;
  const AttentionTasks tasks(runtime, heads, 1, (rows + kLeastRows - 1) / kLeastRows);
  tasks.run(runtime, [&](int thread, int64_t head, int64_t part) {
    f(thread, head, rows * part / tasks.parts, rows * (part + 1) / tasks.parts);
  });
}

// kv_up in the form that both products read, held until destroyed.
class HeldRows {
 public:
  HeldRows(ForwardContext& context, Pack& pack, const LatentHeads& heads, int64_t rank)
      : store_(context.store), pack_(pack), rows_(context.store.acquire(pack, Form::kRowMajor, context.stream)) {
    DF_ASSERT(pack.rows == heads.heads * heads.up_dim() && pack.cols == rank, "{} [{}, {}] for {} heads, rank {}",
              pack.name, pack.rows, pack.cols, heads.heads, rank);
    DF_ASSERT(!context.tape, "{}: absorbed products have no backward", pack.name);
  }
  ~HeldRows() { store_.release(pack_); }
  HeldRows(const HeldRows&) = delete;
  HeldRows& operator=(const HeldRows&) = delete;
  const Tensor& rows() const { return rows_; }

 private:
  ParameterStore& store_;
  Pack& pack_;
  Tensor rows_;
};

}  // namespace

Var latent_qkv(ForwardContext& context, const Var& q, const Var& kv, const Var& k_rope, const LatentHeads& heads,
               const RopeTable& table) {
  const int64_t rows = q.value.rows();
  check_matrix(q.value, rows, heads.heads * heads.key_dim(), "q");
  check_matrix(kv.value, rows, heads.heads * heads.up_dim(), "kv");
  check_matrix(k_rope.value, rows, heads.rope_dim, "k_rope");
  DF_ASSERT(2 * table.cos.cols() == heads.rope_dim, "a table for {} columns", 2 * table.cos.cols());
  check_positions(context.rows.positions, rows, table);
  Layout layout{heads, table, context.rows.positions};
  Tensor qkv = context.empty({rows, qkv_width(heads)}, context.compute);
  with_compute_type(context.compute, [&](auto t) {
    using T = decltype(t);
    auto* kernel = DF_KERNEL(context.runtime.isa(), latent_rows<T>);
    const auto a = latent_rows_of<T>(layout, q.value, kv.value, k_rope.value, qkv);
    context.runtime.pool().parallel_for(rows, 1, [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  });
  if (!context.tape) return {std::move(qkv)};
  const Var inputs[] = {q, kv, k_rope};
  return context.tape->record(std::make_unique<LatentQkvNode>(std::move(layout)), inputs, std::move(qkv));
}

Tensor latent_keys(ForwardContext& context, const Tensor& latent, const Tensor& k_rope, const RopeTable& table) {
  const int64_t rows = latent.rows(), rank = latent.cols();
  check_matrix(k_rope, rows, 2 * table.cos.cols(), "k_rope");
  check_positions(context.rows.positions, rows, table);
  Tensor keys = context.empty({rows, rank + k_rope.cols()}, context.compute);
  const cpu::PairRotation rotation = pair_rotation(context.rows.positions, table);
  with_compute_type(context.compute, [&](auto t) {
    using T = decltype(t);
    auto* kernel = DF_KERNEL(context.runtime.isa(), latent_key_rows<T>);
    context.runtime.pool().parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
      kernel(latent.data<T>(), latent.ld(), k_rope.data<T>(), k_rope.ld(), rank, rotation, keys.data<T>(), begin, end);
    });
  });
  return keys;
}

Tensor absorbed_qk(ForwardContext& context, const Tensor& q, const Tensor& keys, Pack& kv_up, const LatentHeads& heads,
                   const RopeTable& table) {
  const int64_t rows = q.rows(), rank = keys.cols() - heads.rope_dim;
  check_matrix(q, rows, heads.heads * heads.key_dim(), "q");
  check_matrix(keys, rows, rank + 2 * table.cos.cols(), "keys");
  check_positions(context.rows.positions, rows, table);
  Runtime& runtime = context.runtime;
  const int64_t queries = heads.heads * keys.cols();
  Tensor qk = context.empty({rows, queries + keys.cols()}, context.compute);
  Tensor place = qk.column_range(queries, qk.cols());
  copy(runtime, keys, place);
  const HeldRows up(context, kv_up, heads, rank);
  const cpu::PairRotation rotation = pair_rotation(context.rows.positions, table);
  const AttentionScratch scratch(runtime, runtime.pool().size(), DF_KERNEL(runtime.isa(), absorbed_scratch)(rank));
  with_compute_type(context.compute, [&](auto t) {
    using T = decltype(t);
    auto* kernel = DF_KERNEL(runtime.isa(), absorb_queries<T>);
    const cpu::AbsorbedRows<T> a{heads.nope_dim, heads.value_dim, rank,   up.rows().data<T>(),
                                 q.data<T>(),    qk.data<T>(),    q.ld(), qk.ld()};
    for_heads_and_rows(runtime, heads.heads, rows, [&](int thread, int64_t head, int64_t begin, int64_t end) {
      kernel(a, rotation, head, begin, end, scratch.piece(thread));
    });
  });
  return qk;
}

Tensor absorbed_values(ForwardContext& context, const Tensor& o, Pack& kv_up, const LatentHeads& heads) {
  const int64_t rows = o.rows(), rank = o.cols() / heads.heads;
  const HeldRows up(context, kv_up, heads, rank);
  Tensor values = context.empty({rows, heads.heads * heads.value_dim}, context.compute);
  with_compute_type(context.compute, [&](auto t) {
    using T = decltype(t);
    auto* kernel = DF_KERNEL(context.runtime.isa(), absorb_values<T>);
    const cpu::AbsorbedRows<T> a{heads.nope_dim, heads.value_dim,  rank,   up.rows().data<T>(),
                                 o.data<T>(),    values.data<T>(), o.ld(), values.ld()};
    for_heads_and_rows(context.runtime, heads.heads, rows,
                       [&](int, int64_t head, int64_t begin, int64_t end) { kernel(a, head, begin, end); });
  });
  return values;
}

}  // namespace deepflow
