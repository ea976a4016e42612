#pragma once

#include "core/context.h"

namespace deepflow {

// y = factor x, any compute dtype or f32. IN PLACE, as `rope` is: the returned Var has the storage of x.
Var scaled(ForwardContext& context, const Var& x, float factor);

}  // namespace deepflow
