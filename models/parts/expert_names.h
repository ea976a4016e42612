#pragma once

#include "models/parts/decoder_names.h"

namespace deepflow {

// What transformers calls the experts of a layer in its files: MODULE.gate.weight is the router,
// MODULE.experts.N.GATE.weight and so on are the matrices of each expert. Its version 5 keeps them fused in memory,
// .mlp.experts.gate_up_proj and down_proj; files with those are read as well.
struct ExpertNames {
  const char *module, *gate, *up, *down;  // ".block_sparse_moe", "w1", "w3", "w2"
};

struct MoeDecoderNames {
  int64_t layers = 0, experts = 0;
  bool tied_head = false;
  bool router_bias = false;         // as DeepSeek-V3 calls it: transformers has none for other families
  std::vector<LayerName> of_layer;  // of those with experts, all but them
  ExpertNames called;
  int64_t dense_layers = 0;  // how many layers come first that have no experts
  std::vector<LayerName> of_dense_layer = {};
  int64_t layers_behind = 0;  // named as layers, but no part of the stack (multi-token prediction)
};

// Embedding, layers and their experts, final norm and, unless tied, the head.
ForeignNames moe_decoder_names(const MoeDecoderNames& names);

}  // namespace deepflow
