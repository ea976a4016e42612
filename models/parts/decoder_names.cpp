#include "models/parts/decoder_names.h"

namespace deepflow {

std::string layer_name(int64_t layer) { return "layers." + std::to_string(layer); }

ForeignNames decoder_names(int64_t layers, bool tied_head, const std::vector<LayerName>& of_layer) {
  ForeignNames names;
  names.prefix = "model.";
  names.ignored = {".rotary_emb.inv_freq"};
  NameMap& map = names.map;
  map.push_back({"model.embed_tokens.weight", {"embedding.weight"}});
  for (int64_t i = 0; i < layers; ++i) {
    const std::string theirs = "model.layers." + std::to_string(i), ours = layer_name(i);
    for (const LayerName& name : of_layer) {
      map.push_back({theirs + name.theirs + ".weight", {ours + name.ours + ".weight"}});
      if (name.bias) map.push_back({theirs + name.theirs + ".bias", {ours + name.ours + ".bias"}});
    }
  }
  map.push_back({"model.norm.weight", {"norm.weight"}});
  if (tied_head)
    names.ignored.push_back("lm_head.weight");
  else
    map.push_back({"lm_head.weight", {"head.weight"}});
  return names;
}

}  // namespace deepflow
