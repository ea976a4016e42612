#pragma once

#include "core/name_map.h"

#include <cstdint>
#include <string>

namespace deepflow {

std::string gpt2_layer_name(int64_t layer);  // "layers.3"

// transformers' GPT2LMHeadModel: Conv1D weights are stored [in, out], queries, keys and values in one tensor.
ForeignNames gpt2_hugging_face_names(int64_t layers, bool tied);

}  // namespace deepflow
