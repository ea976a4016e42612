#pragma once

#include "core/name_map.h"
#include "models/gemma2/config.h"

namespace deepflow {

// transformers' Gemma2ForCausalLM.
ForeignNames gemma2_hugging_face_names(const Gemma2Config& config);

}  // namespace deepflow
