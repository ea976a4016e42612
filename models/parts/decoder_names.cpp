#include "models/parts/decoder_names.h"

#include <string_view>
#include <utility>

namespace deepflow {

std::string layer_name(int64_t layer) { return "layers." + std::to_string(layer); }

void add_layer_names(NameMap& map, int64_t layer, const std::vector<LayerName>& names) {
  const std::string theirs = "model.layers." + std::to_string(layer), ours = layer_name(layer);
  for (const LayerName& name : names) {
    for (const char* part : {".weight", ".bias"}) {
      if (!name.bias && std::string_view(part) == ".bias") continue;
      NameMapEntry entry{theirs + name.theirs + part, {ours + name.ours + part}};
      if (name.below) entry.logical.push_back(ours + name.below + part);
      map.push_back(std::move(entry));
    }
  }
}

ForeignNames decoder_names(int64_t layers, bool tied_head,
                           const std::function<void(NameMap& map, int64_t layer)>& add_layer) {
  ForeignNames names;
  names.prefix = "model.";
  names.ignored = {".rotary_emb.inv_freq"};
  NameMap& map = names.map;
  map.push_back({"model.embed_tokens.weight", {"embedding.weight"}});
  for (int64_t i = 0; i < layers; ++i) add_layer(map, i);
  map.push_back({"model.norm.weight", {"norm.weight"}});
  if (tied_head)
    names.ignored.push_back("lm_head.weight");
  else
    map.push_back({"lm_head.weight", {"head.weight"}});
  return names;
}

ForeignNames decoder_names(int64_t layers, bool tied_head, const std::vector<LayerName>& of_layer) {
  return decoder_names(layers, tied_head, [&](NameMap& map, int64_t layer) { add_layer_names(map, layer, of_layer); });
}

}  // namespace deepflow
