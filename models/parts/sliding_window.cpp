#include "models/parts/sliding_window.h"

#include "core/option.h"
#include "models/extents.h"

#include <string>
#include <vector>

namespace deepflow {
namespace {

const char* type_of(int64_t window) { return window > 0 ? "sliding_attention" : "full_attention"; }

}  // namespace

void declare_window(OptionGroup& group, SlidingWindow& window) {
  group.add("sliding_window", window.rows)
      .help("a token sees itself and this many less one before it; 0: all before it")
      .unit("tokens")
      .range(0, kLargestExtent)
      .source("Beltagy et al. 2020");
  group.add("full_attention_layers", window.full_layers)
      .help("first layers that see everything in spite of sliding_window")
      .range(0, kMostLayers);
}

SlidingWindow read_hf_window(const HfConfig& config, int64_t layers) {
  SlidingWindow window;
  if (config.boolean("use_sliding_window", false)) {
    window.rows = config.positive("sliding_window", 4096);
    window.full_layers = config.whole("max_window_layers", 28);
  }
  check_hf_layer_types(config, layers, [&](int64_t layer) { return window.of_layer(layer); });
  return window;
}

nlohmann::json hf_window(const SlidingWindow& window, int64_t layers) {
  nlohmann::json rows;
  if (window.rows > 0) rows = window.rows;
  return {{"use_sliding_window", window.rows > 0},
          {"sliding_window", std::move(rows)},
          {"max_window_layers", window.rows > 0 ? window.full_layers : layers},
          {"layer_types", hf_layer_types(layers, [&](int64_t layer) { return window.of_layer(layer); })}};
}

nlohmann::json hf_layer_types(int64_t layers, const WindowOfLayer& window) {
  nlohmann::json types = nlohmann::json::array();
  for (int64_t layer = 0; layer < layers; ++layer) types.push_back(type_of(window(layer)));
  return types;
}

void check_hf_layer_types(const HfConfig& config, int64_t layers, const WindowOfLayer& window) {
  if (!config.has("layer_types")) return;
  const std::vector<std::string> types = config.texts("layer_types");
  if (static_cast<int64_t>(types.size()) != layers)
    config.fail("layer_types", "names {} layers of {}", types.size(), layers);
  for (int64_t layer = 0; layer < layers; ++layer)
    if (const std::string& type = types[static_cast<size_t>(layer)]; type != type_of(window(layer)))
      config.fail("layer_types", "has {} for layer {}; {} is implemented there", type, layer, type_of(window(layer)));
}

}  // namespace deepflow
