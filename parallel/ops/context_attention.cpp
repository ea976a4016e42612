#include "parallel/ops/context_attention.h"

#include "parallel/ops/ring_attention.h"
#include "parallel/ops/ulysses_attention.h"

namespace deepflow {

Var context_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel* cp,
                      std::span<float> largest) {
  if (!is_split(cp)) return attention(context, qkv, shape, largest);
  if (cp->method == ContextMethod::kRing) return ring_attention(context, qkv, shape, *cp, largest);
  return ulysses_attention(context, qkv, shape, *cp, largest);
}

}  // namespace deepflow
