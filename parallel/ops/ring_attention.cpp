#include "parallel/ops/ring_attention.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reuse.h"
#include "parallel/ops/ring_pair.h"

#include <memory>
#include <span>
#include <utility>

namespace deepflow {
namespace {

// Messages to the next rank and from the one before.
struct RingMessages {
  Communicator& comm;
  std::vector<PointToPoint> list;

  explicit RingMessages(Communicator& c) : comm(c) {}
  void add(const Tensor& to_next, const Tensor& from_previous) {
    list.push_back({(comm.rank() + 1) % comm.size(), true, to_next});
    list.push_back({(comm.rank() + comm.size() - 1) % comm.size(), false, from_previous});
  }
  WorkPtr start(std::string_view name) const { return list.empty() ? nullptr : comm.batch(list, name); }
};

// Keys and values of the local rows, to begin with, and room for those that come next.
struct TravellingKeys {
  Tensor here, next;

  TravellingKeys(Runtime& runtime, const AttentionShape& shape, const Tensor& qkv) {
    here = Tensor::empty(runtime.memory(), {qkv.rows(), shape.key_width() + shape.value_width()}, qkv.dtype());
    next = Tensor::empty(runtime.memory(), here.shape(), qkv.dtype());
    copy(runtime, qkv.column_range(shape.query_width(), qkv.cols()), here);
  }
};

template <class F>
void for_pairs_of_step(const std::vector<RingPair>& plan, int step, F&& f) {
  for (const RingPair& pair : plan)
    if (pair.step == step) f(pair);
}

class RingAttentionNode final : public Node {
 public:
  RingAttentionNode(const ContextParallel& cp, RingRows local, std::vector<RingPair> plan)
      : cp_(cp), local_(std::move(local)), plan_(std::move(plan)) {}
  const char* name() const override { return "ring_attention"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& runtime = context.runtime;
    Tensor sums = Tensor::empty(runtime.memory(), local_.qkv.shape(), DType::kF32);
    fill(runtime, sums, 0);
    travel(context, out[0].value, sums);
    local_.o = local_.lse = {};
    Tensor dqkv = std::move(sums);
    if (local_.qkv.dtype() != DType::kF32) {
      Tensor rounded = reuse_or_empty(runtime.memory(), local_.qkv);
      copy(runtime, dqkv, rounded);
      dqkv = std::move(rounded);
    }
    local_ = {};
    plan_ = {};
    return {Grad{std::move(dqkv), nullptr}};
  }

 private:
  // Step s has the keys of rank - s. What this and earlier ranks add to their gradient goes on with the message of step
  // s + 1; the owner's own share, step 0, stays at home.
  void travel(BackwardContext& context, const Tensor& d_o, Tensor& sums) {
    Runtime& runtime = context.runtime;
    const int n = cp_.size();
    Tensor dq = sums.column_range(0, local_.shape.query_width());
    Tensor home = sums.column_range(local_.shape.query_width(), sums.cols());
    TravellingKeys kv(runtime, local_.shape, local_.qkv);
    const auto buffer = [&] { return Tensor::empty(runtime.memory(), kv.here.shape(), DType::kF32); };
    Tensor computed = buffer(), arriving = buffer(), leaving = n > 2 ? buffer() : Tensor();
    for (int step = 0; step < n; ++step) {
      RingMessages messages(*cp_.comm);
      if (step + 1 < n) messages.add(kv.here, kv.next);
      if (step > 1) messages.add(leaving, arriving);
      const WorkPtr under_way = messages.start("ring_attention gradient");
      if (step > 0) fill(runtime, computed, 0);
      for_pairs_of_step(plan_, step, [&](const RingPair& pair) {
        ring_backward(runtime, local_, pair, kv.here, d_o, dq, step > 0 ? computed : home);
      });
      if (under_way) under_way->wait(context.stream);
      if (step > 1) add_into(runtime, computed, arriving);
      if (step > 0) std::swap(computed, leaving);
      std::swap(kv.here, kv.next);
    }
    RingMessages messages(*cp_.comm);
    messages.add(leaving, arriving);
    messages.start("ring_attention gradient home")->wait(context.stream);
    add_into(runtime, home, arriving);
  }

  ContextParallel cp_;
  RingRows local_;
  std::vector<RingPair> plan_;
};

void check_ring(const ForwardContext& context, const Tensor& qkv, const AttentionShape& shape,
                const ContextParallel& cp) {
  const RowInfo& rows = context.rows;
  DF_ASSERT(qkv.rows() == rows.rows() && qkv.cols() == shape.qkv_width(), "qkv {} for {} rows", qkv.shape().to_string(),
            rows.rows());
  DF_ASSERT(shape.heads % shape.kv_heads == 0 && shape.head_dim % 2 == 0 && shape.value_columns() % 2 == 0,
            "{} heads, {} key heads, head_dim {}, value_dim {}", shape.heads, shape.kv_heads, shape.head_dim,
            shape.value_columns());
  DF_ASSERT(qkv.dtype() == context.compute && qkv.is_contiguous());
  const auto spans = context_spans(rows.sequence * cp.size(), ContextMethod::kRing, cp.rank(), cp.size());
  DF_ASSERT(rows.spans.size() == spans.size(), "{} spans, {} expected", rows.spans.size(), spans.size());
  for (size_t i = 0; i < spans.size(); ++i)
    DF_ASSERT(rows.spans[i].first == spans[i].first && rows.spans[i].count == spans[i].count,
              "span {} has {} rows from {} on", i, rows.spans[i].count, rows.spans[i].first);
}

}  // namespace

Var ring_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel& cp,
                   std::span<float> largest) {
  if (!is_split(&cp)) return attention(context, qkv, shape, largest);
  check_ring(context, qkv.value, shape, cp);
  const RowInfo& rows = context.rows;
  std::vector<RingPair> plan = ring_plan(rows, shape.window, cp.rank(), cp.size());
  RingRows local{shape, rows, qkv.value, context.empty({rows.rows(), shape.out_width()}, context.compute),
                 context.empty({rows.rows() * shape.heads}, DType::kF32)};
  {
    RingSums sums{context.compute == DType::kF32 ? local.o : context.empty(local.o.shape(), DType::kF32),
                  context.empty(local.lse.shape(), DType::kF32)};
    TravellingKeys kv(context.runtime, shape, qkv.value);
    for (int step = 0; step < cp.size(); ++step) {
      RingMessages messages(*cp.comm);
      if (step + 1 < cp.size()) messages.add(kv.here, kv.next);
      const WorkPtr under_way = messages.start("ring_attention");
      for_pairs_of_step(plan, step,
                        [&](const RingPair& pair) { ring_forward(context.runtime, local, pair, kv.here, sums); });
      if (under_way) under_way->wait(context.stream);
      std::swap(kv.here, kv.next);
    }
    ring_forward_finish(context.runtime, local, plan, sums, largest);
  }
  Tensor o = local.o;
  if (!context.tape) return {std::move(o)};
  auto node = std::make_unique<RingAttentionNode>(cp, std::move(local), std::move(plan));
  return context.tape->record(std::move(node), std::span(&qkv, 1), std::move(o));
}

}  // namespace deepflow
