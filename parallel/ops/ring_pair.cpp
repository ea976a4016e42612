#include "parallel/ops/ring_pair.h"

#include "kernels/ops/attention_groups.h"
#include "kernels/ops/compute_type.h"

namespace deepflow {
namespace {

// The groups of a pair: its sequences times key heads.
template <class T>
class PairGroups {
 public:
  PairGroups(const RingRows& local, const RingPair& pair, const Tensor& kv) : local_(local), pair_(pair), kv_(kv) {}
  int64_t heads() const { return local_.shape.heads / local_.shape.kv_heads; }
  int64_t sequence(int64_t i) const { return pair_.sequences[static_cast<size_t>(i / local_.shape.kv_heads)]; }
  int64_t kv_head(int64_t i) const { return i % local_.shape.kv_heads; }
  int64_t query_row(int64_t i) const { return sequence(i) * local_.rows.sequence + pair_.query_row; }
  int64_t key_row(int64_t i) const { return sequence(i) * local_.rows.sequence + pair_.key_row; }
  int64_t query_column(int64_t i) const { return kv_head(i) * heads() * local_.shape.head_dim; }
  int64_t key_column(int64_t i) const { return kv_head(i) * local_.shape.head_dim; }
  int64_t value_column(int64_t i) const { return local_.shape.key_width() + kv_head(i) * local_.shape.value_columns(); }
  int64_t out_column(int64_t i) const { return kv_head(i) * heads() * local_.shape.value_columns(); }
  // Where the group's rows begin in lse and its like.
  int64_t statistics(int64_t i) const {
    const int64_t before = local_.rows.batch * pair_.query_row;
    return local_.shape.heads * (before + sequence(i) * pair_.query.count) + kv_head(i) * heads() * pair_.query.count;
  }

  cpu::AttentionGroup<T> operator()(int64_t i) const {
    cpu::AttentionGroup<T> a{};
    const T* kv = kv_.data<T>() + key_row(i) * kv_.ld();
    a.q = local_.qkv.data<T>() + query_row(i) * local_.qkv.ld() + query_column(i);
    a.k = kv + key_column(i);
    a.v = kv + value_column(i);
    a.ld_q = local_.qkv.ld();
    a.ld_k = a.ld_v = kv_.ld();
    a.o = local_.o.data<T>() + query_row(i) * local_.o.ld() + out_column(i);
    a.ld_o = local_.o.ld();
    a.lse = local_.lse.data<float>() + statistics(i);
    if (local_.rows.document_start.defined())
      a.document_start = local_.rows.document_start.data<int32_t>() + query_row(i);
    a.q_rows = pair_.query.count;
    a.kv_rows = pair_.key.count;
    a.past = pair_.query.first - pair_.key.first;
    a.origin = pair_.key.first;
    a.heads = heads();
    a.head_dim = local_.shape.head_dim;
    a.value_dim = local_.shape.value_columns();
    a.window = local_.shape.window;
    a.scale = local_.shape.scale;
    a.softcap = local_.shape.softcap;
    return a;
  }
  cpu::AttentionState state(int64_t i, const RingSums& sums) const {
    float* out = sums.out.data<float>() + query_row(i) * sums.out.ld() + out_column(i);
    const bool begun = pair_.query.first != pair_.key.first;  // pairs of the same span come first
    return {out, sums.out.ld(), local_.lse.data<float>() + statistics(i), sums.weights.data<float>() + statistics(i),
            begun};
  }

 private:
  const RingRows& local_;
  const RingPair& pair_;
  const Tensor& kv_;
};

AttentionTasks tasks_of(const Runtime& runtime, const RingRows& local, const RingPair& pair, int64_t rows) {
  return {runtime, static_cast<int64_t>(pair.sequences.size()), local.shape.kv_heads, max_parts(rows)};
}

template <class T>
void forward(Runtime& runtime, const RingRows& local, const RingPair& pair, const Tensor& kv, const RingSums& sums) {
  auto* kernel = DF_KERNEL(runtime.isa(), attention_forward<T>);
  auto* scratch_bytes = DF_KERNEL(runtime.isa(), attention_forward_scratch<T>);
  const PairGroups<T> groups(local, pair, kv);
  const AttentionTasks tasks = tasks_of(runtime, local, pair, pair.query.count);
  const AttentionScratch scratch(runtime, runtime.pool().size(), scratch_bytes(groups(0)));
  tasks.run(runtime, [&](int thread, int64_t i, int64_t part) {
    auto a = groups(i);
    a.state = groups.state(i, sums);
    kernel(a, part, tasks.parts, scratch.piece(thread));
  });
}

template <class T>
void finish(Runtime& runtime, const RingRows& local, const RingPair& pair, const RingSums& sums,
            std::span<float> largest) {
  auto* kernel = DF_KERNEL(runtime.isa(), attention_forward_finish<T>);
  const PairGroups<T> groups(local, pair, local.qkv);
  const AttentionTasks whole(runtime, static_cast<int64_t>(pair.sequences.size()), local.shape.kv_heads, 1);
  LargestScores scores(whole, groups.heads(), !largest.empty());
  runtime.pool().parallel_for_dynamic(whole.groups, [&](int64_t i) {
    auto a = groups(i);
    a.state = groups.state(i, sums);
    a.largest = scores.place(i, 0);
    kernel(a);
  });
  scores.raise(largest);
}

template <class T>
void backward(Runtime& runtime, const RingRows& local, const RingPair& pair, const Tensor& kv, const Tensor& d_o,
              Tensor& dq, Tensor& dkv) {
  using Gradients = cpu::AttentionGradients<T, float, true>;
  auto* kernel = DF_KERNEL(runtime.isa(), attention_backward<Gradients>);
  auto* add_parts = DF_KERNEL(runtime.isa(), attention_backward_finish<Gradients>);
  auto* scratch_bytes = DF_KERNEL(runtime.isa(), attention_backward_scratch<T>);
  const PairGroups<T> groups(local, pair, kv);
  const auto gradients = [&](int64_t i) {
    float* to = dkv.data<float>() + groups.key_row(i) * dkv.ld();
    return Gradients{d_o.data<T>() + groups.query_row(i) * d_o.ld() + groups.out_column(i),
                     dq.data<float>() + groups.query_row(i) * dq.ld() + groups.query_column(i),
                     to + groups.key_column(i),
                     to + groups.value_column(i),
                     d_o.ld(),
                     dq.ld(),
                     dkv.ld()};
  };
  const AttentionTasks tasks = tasks_of(runtime, local, pair, pair.key.count);
  const bool shared = tasks.parts > 1;
  const AttentionScratch scratch(runtime, shared ? tasks.groups * tasks.parts : runtime.pool().size(),
                                 scratch_bytes(groups(0), tasks.parts));
  tasks.run(runtime, [&](int thread, int64_t i, int64_t part) {
    kernel(groups(i), gradients(i), part, tasks.parts, scratch.piece(shared ? i * tasks.parts + part : thread));
  });
  if (!shared) return;
  runtime.pool().parallel_for_dynamic(tasks.groups * groups.heads(), [&](int64_t i) {
    const int64_t group = i / groups.heads();
    add_parts(groups(group), gradients(group), i % groups.heads(), tasks.parts, scratch.piece(group * tasks.parts),
              scratch.stride);
  });
}

}  // namespace

void ring_forward(Runtime& runtime, const RingRows& local, const RingPair& pair, const Tensor& kv, RingSums& sums) {
  with_compute_type(local.qkv.dtype(), [&](auto t) { forward<decltype(t)>(runtime, local, pair, kv, sums); });
}

void ring_forward_finish(Runtime& runtime, const RingRows& local, const std::vector<RingPair>& plan, RingSums& sums,
                         std::span<float> largest) {
  with_compute_type(local.qkv.dtype(), [&](auto t) {
    for (const RingPair& pair : plan)
      if (pair.query.first == pair.key.first) finish<decltype(t)>(runtime, local, pair, sums, largest);
  });
}

void ring_backward(Runtime& runtime, const RingRows& local, const RingPair& pair, const Tensor& kv, const Tensor& d_o,
                   Tensor& dq, Tensor& dkv) {
  with_compute_type(local.qkv.dtype(), [&](auto t) { backward<decltype(t)>(runtime, local, pair, kv, d_o, dq, dkv); });
}

}  // namespace deepflow
