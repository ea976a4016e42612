#pragma once

#include "core/option.h"
#include "kernels/ops/rope.h"
#include "models/hf_config.h"

#include <optional>

namespace deepflow {

// How positions beyond those of pretraining are reached.
struct RopeScaling {
  enum class Kind : uint8_t { kLlama3, kLinear, kYarn };
  Kind kind = Kind::kLlama3;
  double factor = 8;
  double low_freq_factor = 1, high_freq_factor = 4;  // kLlama3
  int64_t original_max_positions = 8192;             // kLlama3, kYarn
  double beta_fast = 32, beta_slow = 1;              // kYarn
  double mscale = 0, mscale_all_dim = 0;             // kYarn; 0: not given
  double attention_factor = 0;                       // kYarn; 0: follows from the others
};
void declare(OptionGroup& group, RopeScaling& scaling);
// Writes it into the options of a table.
void stretch(RopeOptions& options, const RopeScaling& scaling);

// Rotary positions as a config.json has them: version 5 of transformers keeps everything in rope_parameters, version 4
// had rope_theta and rope_scaling.
struct HfRope {
  double theta = 10000;
  std::optional<RopeScaling> scaling;
};
// max_positions: what original_max_position_embeddings is where it is not said; theta likewise. Throws DataError for
// other kinds.
HfRope read_hf_rope(const HfConfig& config, int64_t max_positions, double theta);
// The keys of both versions.
nlohmann::json hf_rope(const HfRope& rope);

}  // namespace deepflow
