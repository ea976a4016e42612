#include "models/parts/expert_names.h"

namespace deepflow {
namespace {

void add(NameMap& map, const std::string& external, const std::string& logical, int64_t index = -1) {
  map.push_back({external, {logical}, false, index});
}

// Those of one parameter stand together.
void add_apart(NameMap& map, const std::string& module, const std::string& ours, int64_t experts,
               const ExpertNames& called) {
  const std::pair<const char*, const char*> matrices[] = {
      {called.gate, ".gate"}, {called.up, ".up"}, {called.down, ".down"}};
  for (const auto& matrix : matrices)
    for (int64_t e = 0; e < experts; ++e)
      add(map, module + ".experts." + std::to_string(e) + "." + matrix.first + ".weight",
          ours + matrix.second + ".weight", e);
}

void add_fused(NameMap& map, const std::string& module, const std::string& ours) {
  map.push_back({module + ".experts.gate_up_proj", {ours + ".gate.weight", ours + ".up.weight"}});
  map.push_back({module + ".experts.down_proj", {ours + ".down.weight"}});
}

void add_experts(NameMap& map, int64_t layer, const MoeDecoderNames& n, bool fused) {
  const std::string theirs = "model.layers." + std::to_string(layer), ours = layer_name(layer) + ".moe";
  const std::string module = theirs + (fused ? ".mlp" : n.called.module);
  add(map, module + ".gate.weight", ours + ".router.weight");
  if (n.router_bias)
    map.push_back({module + ".gate.e_score_correction_bias", {ours + ".router.bias"}, false, -1, true});
  if (fused)
    add_fused(map, module, ours);
  else
    add_apart(map, module, ours, n.experts, n.called);
}

ForeignNames names_of(const MoeDecoderNames& n, bool fused) {
  const auto add_layer = [&](NameMap& map, int64_t layer) {
    if (layer < n.dense_layers) return add_layer_names(map, layer, n.of_dense_layer);
    add_layer_names(map, layer, n.of_layer);
    add_experts(map, layer, n, fused);
  };
  ForeignNames names = decoder_names(n.layers, n.tied_head, add_layer);
  for (int64_t i = 0; i < n.layers_behind; ++i) add_layer(names.map, n.layers + i);
  return names;
}

}  // namespace

ForeignNames moe_decoder_names(const MoeDecoderNames& n) {
  ForeignNames names = names_of(n, false);
  names.also_read = {names_of(n, true).map};
  if (!n.router_bias) names.ignored.push_back(".e_score_correction_bias");
  return names;
}

}  // namespace deepflow
