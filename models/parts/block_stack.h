#pragma once

#include "models/parts/norm.h"

#include <functional>

namespace deepflow {

// What backward keeps of a block's forward pass.
enum class Recompute : uint8_t {
  kNone,       // everything it needs
  kSelective,  // all but normed rows and activations, which a pass over memory makes again (Korthikanti et al. 2022)
  kFull,       // only the block's input: forward runs again in backward
  kAuto,       // of a whole model: for each block whichever lets the run fit (engine/memory_plan.h)
};

using BlockForward = std::function<Residual(ForwardContext&, const Residual&)>;

// One block of the stack under the given policy, none of kAuto. All give the same bits. `block` must be pure and must
// leave a delta.
Residual run_block(ForwardContext& context, const Residual& stream, Recompute policy, const BlockForward& block);

}  // namespace deepflow
