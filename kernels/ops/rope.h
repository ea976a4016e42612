#pragma once

#include "core/context.h"

#include <optional>

namespace deepflow {

// Llama 3.1's frequency scaling (Grattafiori et al. 2024; rope_type "llama3" in transformers).
struct Llama3RopeScaling {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_positions = 8192;
};

// Peng et al. 2023, "YaRN", sections 3.2 to 3.4, as transformers' _compute_yarn_parameters has it (rope_type "yarn"):
// wavelengths that turn less than beta_slow times in original_max_positions are stretched by the whole factor, those
// that turn more than beta_fast times stay, with a ramp over the columns between; cos and sin are multiplied by
// yarn_attention_factor.
struct YarnRopeScaling {
  double factor = 40;
  int64_t original_max_positions = 4096;
  double beta_fast = 32, beta_slow = 1;
  double mscale = 0, mscale_all_dim = 0;  // DeepSeek's; 0: not given
  double attention_factor = 0;            // 0: follows from the others
};
// 1 + 0.1 mscale ln(factor), or 1 for factors up to 1: what DeepSeek multiplies queries and keys with.
double yarn_mscale(double factor, double mscale);
double yarn_attention_factor(const YarnRopeScaling& scaling);

struct RopeOptions {
  int64_t head_dim = 64;
  int64_t max_positions = 2048;
  double theta = 10000;
  std::optional<Llama3RopeScaling> llama3;
  std::optional<YarnRopeScaling> yarn;
  double linear_factor = 1;  // positions divided by it (rope_type "linear")
};

// cos and sin of position * frequency, f32 [max_positions, head_dim / 2] each; with YaRN times its attention factor.
struct RopeTable {
  Tensor cos, sin;
};
RopeTable make_rope_table(Runtime& runtime, const RopeOptions& options);

// Throws DataError where one of the rows' positions is beyond the table.
void check_positions(const Tensor& positions, int64_t rows, const RopeTable& table);

// Su et al. 2021, in the half-split order of transformers (rotate_half). Rotates the first `num_heads` heads of
// head_dim columns of every row of x [M, >= num_heads * head_dim] by the row's position. IN PLACE: the returned Var has
// the storage of x, whose old value must not be read by anybody else. Backward rotates the gradient back, in place.
Var rope(ForwardContext& context, const Var& x, int64_t num_heads, const RopeTable& table);

}  // namespace deepflow
