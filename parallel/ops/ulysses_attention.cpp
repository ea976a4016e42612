#include "parallel/ops/ulysses_attention.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

// Whole sequences are dealt by rows, [batch, local rows] on every rank, or by heads, [batch, ranks * local rows]. On
// the way between the two, block r of [ranks, batch, local rows, columns] are the rows of rank r.
struct Deal {
  ContextParallel cp;
  AttentionShape shape;  // of all heads
  int64_t batch, local_rows;

  int64_t ranks() const { return cp.size(); }
  int64_t rows() const { return batch * local_rows; }
  AttentionShape shape_here() const {
    AttentionShape s = shape;
    s.heads = shape.heads / ranks();
    s.kv_heads = std::max<int64_t>(1, shape.kv_heads / ranks());
    return s;
  }
  int64_t first_kv_head(int64_t rank) const { return rank * shape.kv_heads / ranks(); }
};

// A block of columns of qkv: queries, keys or values. `count` columns from `all` on of all heads are those from `here`
// on of a rank's.
struct HeadBlock {
  int64_t all, here, count;

  Tensor of_all(const Tensor& t) const { return t.column_range(all, all + count); }
  Tensor of_rank(const Tensor& t) const { return t.column_range(here, here + count); }
};
std::vector<HeadBlock> head_blocks(const Deal& deal, int64_t rank) {
  const AttentionShape& all = deal.shape;
  const AttentionShape here = deal.shape_here();
  const int64_t kv_head = deal.first_kv_head(rank);
  return {{rank * here.query_width(), 0, here.query_width()},
          {all.query_width() + kv_head * all.head_dim, here.query_width(), here.key_width()},
          {all.query_width() + all.key_width() + kv_head * all.value_columns(), here.query_width() + here.key_width(),
           here.value_width()}};
}

// Between the order of whole sequences [batch, ranks, local rows] and that of messages [ranks, batch, local rows].
Tensor reordered(Runtime& runtime, const Deal& deal, const Tensor& from, bool to_messages) {
  if (deal.batch == 1) return from;
  Tensor to = Tensor::empty(runtime.memory(), from.shape(), from.dtype());
  const int64_t n = deal.local_rows;
  for (int64_t b = 0; b < deal.batch; ++b)
    for (int64_t r = 0; r < deal.ranks(); ++r) {
      const int64_t sequence = (b * deal.ranks() + r) * n, message = (r * deal.batch + b) * n;
      Tensor rows = to_messages ? to.row_range(message, message + n) : to.row_range(sequence, sequence + n);
      copy(runtime, to_messages ? from.row_range(sequence, sequence + n) : from.row_range(message, message + n), rows);
    }
  return to;
}

Tensor exchanged(Runtime& runtime, Stream& stream, const Deal& deal, const Tensor& from, std::string_view name) {
  Tensor to = Tensor::empty(runtime.memory(), from.shape(), from.dtype());
  const std::vector<int64_t> counts(static_cast<size_t>(deal.ranks()), from.num_elements() / deal.ranks());
  deal.cp.comm->all_to_all(from, counts, to, counts, name)->wait(stream);
  return to;
}

Tensor block_of(const Deal& deal, const Tensor& messages, int64_t rank) {
  return messages.row_range(rank * deal.rows(), (rank + 1) * deal.rows());
}

// qkv of the local rows, all heads -> of whole sequences, this rank's heads.
Tensor qkv_by_heads(Runtime& runtime, Stream& stream, const Deal& deal, const Tensor& qkv) {
  Tensor messages =
      Tensor::empty(runtime.memory(), {deal.ranks() * deal.rows(), deal.shape_here().qkv_width()}, qkv.dtype());
  for (int64_t r = 0; r < deal.ranks(); ++r)
    for (const HeadBlock& block : head_blocks(deal, r)) {
      Tensor to = block.of_rank(block_of(deal, messages, r));
      copy(runtime, block.of_all(qkv), to);
    }
  messages = exchanged(runtime, stream, deal, messages, "ulysses_attention qkv");
  return reordered(runtime, deal, messages, false);
}

// The way back of a gradient. Copies of a key head are those of neighbouring ranks.
Tensor dqkv_by_rows(Runtime& runtime, Stream& stream, const Deal& deal, const Tensor& gradient) {
  const Tensor messages =
      exchanged(runtime, stream, deal, reordered(runtime, deal, gradient, true), "ulysses_attention qkv gradient");
  Tensor result = Tensor::empty(runtime.memory(), {deal.rows(), deal.shape.qkv_width()}, messages.dtype());
  const int64_t copies = std::max<int64_t>(1, deal.ranks() / deal.shape.kv_heads);
  for (int64_t r = 0; r < deal.ranks(); ++r) {
    const std::vector<HeadBlock> blocks = head_blocks(deal, r);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const HeadBlock& block = blocks[i];
      const Tensor from = block.of_rank(block_of(deal, messages, r));
      Tensor to = block.of_all(result);
      if (i == 0 || copies == 1) {
        copy(runtime, from, to);
      } else if (r % copies == 0) {
        Tensor sum = Tensor::empty(runtime.memory(), {deal.rows(), block.count}, DType::kF32);
        copy(runtime, from, sum);
        for (int64_t other = r + 1; other < r + copies; ++other)
          add_into(runtime, sum, block.of_rank(block_of(deal, messages, other)));
        copy(runtime, sum, to);
      }
    }
  }
  return result;
}

// o or its gradient: whole sequences, this rank's heads -> local rows, all heads.
Tensor o_by_rows(Runtime& runtime, Stream& stream, const Deal& deal, const Tensor& o, std::string_view name) {
  const AttentionShape here = deal.shape_here();
  const Tensor messages = exchanged(runtime, stream, deal, reordered(runtime, deal, o, true), name);
  Tensor result = Tensor::empty(runtime.memory(), {deal.rows(), deal.shape.out_width()}, o.dtype());
  for (int64_t r = 0; r < deal.ranks(); ++r) {
    Tensor to = result.column_range(r * here.out_width(), (r + 1) * here.out_width());
    copy(runtime, block_of(deal, messages, r), to);
  }
  return result;
}

Tensor o_by_heads(Runtime& runtime, Stream& stream, const Deal& deal, const Tensor& o, std::string_view name) {
  const AttentionShape here = deal.shape_here();
  Tensor messages = Tensor::empty(runtime.memory(), {deal.ranks() * deal.rows(), here.out_width()}, o.dtype());
  for (int64_t r = 0; r < deal.ranks(); ++r) {
    Tensor to = block_of(deal, messages, r);
    copy(runtime, o.column_range(r * here.out_width(), (r + 1) * here.out_width()), to);
  }
  return reordered(runtime, deal, exchanged(runtime, stream, deal, messages, name), false);
}

class QkvByHeadsNode final : public Node {
 public:
  explicit QkvByHeadsNode(const Deal& deal) : deal_(deal) {}
  const char* name() const override { return "ulysses_attention qkv"; }
  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return {Grad{dqkv_by_rows(context.runtime, context.stream, deal_, out[0].value), nullptr}};
  }

 private:
  Deal deal_;
};

class OByRowsNode final : public Node {
 public:
  explicit OByRowsNode(const Deal& deal) : deal_(deal) {}
  const char* name() const override { return "ulysses_attention o"; }
  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return {Grad{o_by_heads(context.runtime, context.stream, deal_, out[0].value, "ulysses_attention o gradient"),
                 nullptr}};
  }

 private:
  Deal deal_;
};

// Whole sequences: what attention reads of them.
RowInfo whole_rows(ForwardContext& context, const Deal& deal) {
  RowInfo rows;
  rows.batch = deal.batch;
  rows.sequence = deal.ranks() * deal.local_rows;
  const Tensor& here = context.rows.document_start;
  if (!here.defined()) return rows;
  Tensor gathered = context.empty({deal.ranks() * deal.rows()}, DType::kI32);
  const std::vector<int64_t> counts(static_cast<size_t>(deal.ranks()), deal.rows());
  deal.cp.comm->all_gather(here, gathered, counts, "ulysses_attention document_start")->wait(context.stream);
  rows.document_start = context.empty(gathered.shape(), DType::kI32);
  for (int64_t r = 0; r < deal.ranks(); ++r)
    for (int64_t b = 0; b < deal.batch; ++b)
      std::copy_n(gathered.data<int32_t>() + (r * deal.batch + b) * deal.local_rows, deal.local_rows,
                  rows.document_start.data<int32_t>() + (b * deal.ranks() + r) * deal.local_rows);
  return rows;
}

}  // namespace

Var ulysses_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel& cp,
                      std::span<float> largest) {
  if (!is_split(&cp)) return attention(context, qkv, shape, largest);
  const Deal deal{cp, shape, context.rows.batch, context.rows.sequence};
  DF_ASSERT(qkv.value.rows() == deal.rows() && qkv.value.cols() == shape.qkv_width(), "qkv {} for {} rows",
            qkv.value.shape().to_string(), deal.rows());
  DF_ASSERT(context.rows.spans.size() == 1 && context.rows.spans[0].first == cp.rank() * deal.local_rows &&
                context.rows.spans[0].count == deal.local_rows,
            "{} spans of {} rows", context.rows.spans.size(), deal.local_rows);
  check_context_parallel(cp, shape.heads, shape.kv_heads, deal.ranks() * deal.local_rows);

  ForwardContext whole = context;
  whole.rows = whole_rows(context, deal);
  Var by_heads{qkv_by_heads(context.runtime, context.stream, deal, qkv.value)};
  if (context.tape)
    by_heads =
        context.tape->record(std::make_unique<QkvByHeadsNode>(deal), std::span(&qkv, 1), std::move(by_heads.value));
  const AttentionShape here = deal.shape_here();
  if (!largest.empty())
    largest = largest.subspan(static_cast<size_t>(cp.rank() * here.heads), static_cast<size_t>(here.heads));
  const Var o = attention(whole, by_heads, here, largest);
  Tensor by_rows = o_by_rows(context.runtime, context.stream, deal, o.value, "ulysses_attention o");
  if (!context.tape) return {std::move(by_rows)};
  return context.tape->record(std::make_unique<OByRowsNode>(deal), std::span(&o, 1), std::move(by_rows));
}

}  // namespace deepflow
