#include "models/llama/name_map.h"

namespace deepflow {

std::string llama_layer_name(int64_t layer) { return "layers." + std::to_string(layer); }

ForeignNames llama_hugging_face_names(const LlamaConfig& config) {
  ForeignNames names;
  names.prefix = "model.";
  names.ignored = {".rotary_emb.inv_freq"};
  NameMap& map = names.map;
  map.push_back({"model.embed_tokens.weight", {"embedding.weight"}});
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string theirs = "model.layers." + std::to_string(i), ours = llama_layer_name(i);
    const auto add = [&](const char* external, const char* logical, bool bias) {
      map.push_back({theirs + external + ".weight", {ours + logical + ".weight"}});
      if (bias) map.push_back({theirs + external + ".bias", {ours + logical + ".bias"}});
    };
    add(".input_layernorm", ".attention_norm", false);
    add(".self_attn.q_proj", ".attention.q", config.attention_bias);
    add(".self_attn.k_proj", ".attention.k", config.attention_bias);
    add(".self_attn.v_proj", ".attention.v", config.attention_bias);
    add(".self_attn.o_proj", ".attention.out", config.attention_bias);
    add(".post_attention_layernorm", ".mlp_norm", false);
    add(".mlp.gate_proj", ".mlp.gate", config.mlp_bias);
    add(".mlp.up_proj", ".mlp.up", config.mlp_bias);
    add(".mlp.down_proj", ".mlp.down", config.mlp_bias);
  }
  map.push_back({"model.norm.weight", {"norm.weight"}});
  if (config.tie_embeddings)
    names.ignored.push_back("lm_head.weight");
  else
    map.push_back({"lm_head.weight", {"head.weight"}});
  return names;
}

}  // namespace deepflow
