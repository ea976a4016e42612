#pragma once

#include "core/name_map.h"
#include "models/mixtral/config.h"

#include <string>

namespace deepflow {

std::string mixtral_layer_name(int64_t layer);  // "layers.3"

// transformers' MixtralForCausalLM. Files hold a tensor for each matrix of each expert; its version 5 fuses them in
// memory, and files with those tensors are read as well.
ForeignNames mixtral_hugging_face_names(const MixtralConfig& config);

}  // namespace deepflow
