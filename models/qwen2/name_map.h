#pragma once

#include "core/name_map.h"
#include "models/qwen2/config.h"

namespace deepflow {

// transformers' Qwen2ForCausalLM.
ForeignNames qwen2_hugging_face_names(const Qwen2Config& config);

}  // namespace deepflow
