#pragma once

#include "core/context.h"

#include <optional>

namespace deepflow {

// Llama 3.1's frequency scaling (Grattafiori et al. 2024; rope_type "llama3" in transformers).
struct Llama3RopeScaling {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_positions = 8192;
};

struct RopeOptions {
  int64_t head_dim = 64;
  int64_t max_positions = 2048;
  double theta = 10000;
  std::optional<Llama3RopeScaling> llama3;
  double linear_factor = 1;  // positions divided by it (rope_type "linear")
};

// cos and sin of position * frequency, f32 [max_positions, head_dim / 2] each.
struct RopeTable {
  Tensor cos, sin;
};
RopeTable make_rope_table(Runtime& runtime, const RopeOptions& options);

// Su et al. 2021, in the half-split order of transformers (rotate_half). Rotates the first `num_heads` heads of
// head_dim columns of every row of x [M, >= num_heads * head_dim] by the row's position. IN PLACE: the returned Var has
// the storage of x, whose old value must not be read by anybody else. Backward rotates the gradient back, in place.
Var rope(ForwardContext& context, const Var& x, int64_t num_heads, const RopeTable& table);

}  // namespace deepflow
