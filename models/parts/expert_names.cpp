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

NameMap names_of(const MoeDecoderNames& n, bool fused) {
  NameMap map;
  add(map, "model.embed_tokens.weight", "embedding.weight");
  for (int64_t i = 0; i < n.layers; ++i) {
    const std::string theirs = "model.layers." + std::to_string(i), ours = moe_layer_name(i);
    for (const auto& name : n.of_layer) add(map, theirs + name.first, ours + name.second);
    const std::string module = theirs + (fused ? ".mlp" : n.called.module), moe = ours + ".moe";
    add(map, module + ".gate.weight", moe + ".router.weight");
    if (n.router_bias)
      map.push_back({module + ".gate.e_score_correction_bias", {moe + ".router.bias"}, false, -1, true});
    if (fused)
      add_fused(map, module, moe);
    else
      add_apart(map, module, moe, n.experts, n.called);
  }
  add(map, "model.norm.weight", "norm.weight");
  if (!n.tied_head) add(map, "lm_head.weight", "head.weight");
  return map;
}

}  // namespace

std::string moe_layer_name(int64_t layer) { return "layers." + std::to_string(layer); }

ForeignNames moe_decoder_names(const MoeDecoderNames& n) {
  ForeignNames names;
  names.map = names_of(n, false);
  names.also_read = {names_of(n, true)};
  names.prefix = "model.";
  names.ignored = {".rotary_emb.inv_freq"};
  if (n.tied_head) names.ignored.push_back("lm_head.weight");
  if (!n.router_bias) names.ignored.push_back(".e_score_correction_bias");
  return names;
}

}  // namespace deepflow
