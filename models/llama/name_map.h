#pragma once

#include "core/name_map.h"
#include "models/llama/config.h"

namespace deepflow {

// transformers' LlamaForCausalLM.
ForeignNames llama_hugging_face_names(const LlamaConfig& config);

}  // namespace deepflow
