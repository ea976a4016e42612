#include "models/parts/block_stack.h"

#include "core/error.h"

namespace deepflow {

Residual run_block(ForwardContext& context, const Residual& stream, Recompute policy, const BlockForward& block) {
  DF_ASSERT(policy != Recompute::kAuto, "a policy that is not decided");
  if (policy == Recompute::kNone || !context.tape) return block(context, stream);
  if (policy == Recompute::kSelective) {
    ForwardContext selective = context;
    selective.selective = true;
    return block(selective, stream);
  }
  std::vector<Var> inputs = {stream.x};
  if (stream.delta) inputs.push_back(*stream.delta);
  const std::vector<Var> outputs = recompute(context, inputs, [block](ForwardContext& inner, std::span<const Var> in) {
    Residual entering{in[0], std::nullopt};
    if (in.size() > 1) entering.delta = in[1];
    const Residual leaving = block(inner, entering);
    return std::vector<Var>{leaving.x, *leaving.delta};
  });
  return {outputs[0], outputs[1]};
}

}  // namespace deepflow
