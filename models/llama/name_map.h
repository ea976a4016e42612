#pragma once

#include "core/name_map.h"
#include "models/llama/config.h"

#include <string>

namespace deepflow {

std::string llama_layer_name(int64_t layer);  // "layers.3"

// transformers' LlamaForCausalLM: one tensor per logical matrix, rotary halves in the order that the rope op uses.
ForeignNames llama_hugging_face_names(const LlamaConfig& config);

}  // namespace deepflow
