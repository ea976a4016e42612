#include "kernels/ops/column_blocks.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

class SplitColumnsNode final : public Node {
 public:
  SplitColumnsNode(const Tensor& x, std::span<const int64_t> widths)
      : rows_(x.rows()), cols_(x.cols()), dtype_(x.dtype()), widths_(widths.begin(), widths.end()) {}
  const char* name() const override { return "split_columns"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Tensor dx = Tensor::empty(context.runtime.memory(), {rows_, cols_}, dtype_);
    int64_t begin = 0;
    for (size_t i = 0; i < widths_.size(); begin += widths_[i], ++i) {
      Tensor block = dx.column_range(begin, begin + widths_[i]);
      if (out[i].defined())
        copy(context.runtime, out[i].value, block);
      else
        fill(context.runtime, block, 0);
      out[i].value = {};
    }
    return {Grad{std::move(dx), nullptr}};
  }

 private:
  int64_t rows_, cols_;
  DType dtype_;
  std::vector<int64_t> widths_;
};

}  // namespace

std::vector<Var> split_columns(ForwardContext& context, const Var& x, std::span<const int64_t> widths) {
  std::vector<Tensor> blocks;
  int64_t begin = 0;
  for (const int64_t width : widths) {
    blocks.push_back(context.empty({x.value.rows(), width}, x.value.dtype()));
    copy(context.runtime, x.value.column_range(begin, begin + width), blocks.back());
    begin += width;
  }
  DF_ASSERT(begin == x.value.cols(), "blocks of {} columns, there are {}", begin, x.value.cols());
  if (context.tape)
    return context.tape->record(std::make_unique<SplitColumnsNode>(x.value, widths), std::span(&x, 1),
                                std::move(blocks));
  std::vector<Var> vars;
  for (Tensor& block : blocks) vars.push_back({std::move(block)});
  return vars;
}

}  // namespace deepflow
