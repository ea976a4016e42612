#pragma once

#include "core/context.h"

namespace deepflow {

enum class GeluKind : uint8_t { kExact, kTanh };

// Hendrycks & Gimpel 2016: x Phi(x), or its tanh approximation (GPT-2). u, y: [M, F] compute dtype.
Var gelu(ForwardContext& context, const Var& u, GeluKind kind);

// Shazeer 2020: silu(gate) * up. gate_up [M, 2F]: gate in the first F columns, up in the others; y [M, F].
Var swiglu(ForwardContext& context, const Var& gate_up);
// The same with GELU in its tanh form for silu.
Var geglu(ForwardContext& context, const Var& gate_up);

}  // namespace deepflow
