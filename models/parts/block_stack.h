#pragma once

#include "models/parts/norm.h"

#include <functional>

namespace deepflow {

// What backward keeps of a block's forward pass.
enum class Recompute : uint8_t {
  kNone,  // everything it needs
  kFull,  // only the block's input: forward runs again in backward
};

using BlockForward = std::function<Residual(ForwardContext&, const Residual&)>;

// One block of the stack under the given policy. `block` must be pure and must leave a delta.
Residual run_block(ForwardContext& context, const Residual& stream, Recompute policy, const BlockForward& block);

}  // namespace deepflow
