#pragma once

#include "core/name_map.h"

#include <functional>
#include <string>
#include <vector>

namespace deepflow {

std::string layer_name(int64_t layer);  // "layers.3"

// What of one layer is called how: {".self_attn.q_proj", ".attention.q", true} stands for
// model.layers.I.self_attn.q_proj.weight and .bias, ours layers.I.attention.q.weight and .bias. `below`: another matrix
// of ours whose rows stand below those in the same tensor.
struct LayerName {
  const char *theirs, *ours;
  bool bias = false;
  const char* below = nullptr;
};
void add_layer_names(NameMap& map, int64_t layer, const std::vector<LayerName>& names);

// The names that transformers gives a decoder: embedding, its layers one by one as add_layer(map, layer) says, final
// norm and, unless tied, the head. One tensor per logical matrix, rotary halves in the order that the rope op uses.
ForeignNames decoder_names(int64_t layers, bool tied_head,
                           const std::function<void(NameMap& map, int64_t layer)>& add_layer);
ForeignNames decoder_names(int64_t layers, bool tied_head, const std::vector<LayerName>& of_layer);  // all alike

}  // namespace deepflow
