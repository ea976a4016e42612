#pragma once

#include "core/name_map.h"
#include "models/qwen3/config.h"

namespace deepflow {

// transformers' Qwen3ForCausalLM.
ForeignNames qwen3_hugging_face_names(const Qwen3Config& config);

}  // namespace deepflow
