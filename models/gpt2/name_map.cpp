#include "models/gpt2/name_map.h"

namespace deepflow {

std::string gpt2_layer_name(int64_t layer) { return "layers." + std::to_string(layer); }

ForeignNames gpt2_hugging_face_names(int64_t layers, bool tied) {
  ForeignNames names;
  names.prefix = "transformer.";
  names.ignored = {".attn.bias", ".attn.masked_bias"};
  NameMap& map = names.map;
  map.push_back({"transformer.wte.weight", {"embedding.weight"}});
  map.push_back({"transformer.wpe.weight", {"positions.weight"}});
  for (int64_t i = 0; i < layers; ++i) {
    const std::string theirs = "transformer.h." + std::to_string(i), ours = gpt2_layer_name(i);
    for (const char* part : {".weight", ".bias"}) {
      const bool matrix = part == std::string(".weight");
      const auto dense = [&](const char* external, std::initializer_list<const char*> logical) {
        NameMapEntry entry{theirs + external + part, {}, matrix};
        for (const char* name : logical) entry.logical.push_back(ours + name + part);
        map.push_back(std::move(entry));
      };
      map.push_back({theirs + ".ln_1" + part, {ours + ".attention_norm" + part}});
      dense(".attn.c_attn", {".attention.q", ".attention.k", ".attention.v"});
      dense(".attn.c_proj", {".attention.out"});
      map.push_back({theirs + ".ln_2" + part, {ours + ".mlp_norm" + part}});
      dense(".mlp.c_fc", {".mlp.up"});
      dense(".mlp.c_proj", {".mlp.down"});
    }
  }
  map.push_back({"transformer.ln_f.weight", {"norm.weight"}});
  map.push_back({"transformer.ln_f.bias", {"norm.bias"}});
  if (tied)
    names.ignored.push_back("lm_head.weight");
  else
    map.push_back({"lm_head.weight", {"head.weight"}});
  return names;
}

}  // namespace deepflow
