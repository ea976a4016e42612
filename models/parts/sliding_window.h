#pragma once

#include "core/option_group.h"
#include "models/hf_config.h"

#include <functional>

namespace deepflow {

// Qwen: from some layer on a row sees only itself and the `rows` - 1 before it.
struct SlidingWindow {
  int64_t rows = 0;         // 0: every layer sees everything
  int64_t full_layers = 0;  // in front of the layers with a window
  int64_t of_layer(int64_t layer) const { return layer >= full_layers ? rows : 0; }
};
// sliding_window and full_attention_layers.
void declare_window(OptionGroup& group, SlidingWindow& window);

SlidingWindow read_hf_window(const HfConfig& config, int64_t layers);
nlohmann::json hf_window(const SlidingWindow& window, int64_t layers);

// A config.json's layer_types, from every layer's window (0: none).
using WindowOfLayer = std::function<int64_t(int64_t layer)>;
nlohmann::json hf_layer_types(int64_t layers, const WindowOfLayer& window);
// DataError when the config.json names others.
void check_hf_layer_types(const HfConfig& config, int64_t layers, const WindowOfLayer& window);

}  // namespace deepflow
