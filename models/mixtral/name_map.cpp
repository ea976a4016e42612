#include "models/mixtral/name_map.h"

namespace deepflow {
namespace {

struct Names {
  NameMap& map;
  std::string theirs, ours;  // of a layer

  void add(const std::string& external, const std::string& logical) {
    map.push_back({theirs + external + ".weight", {ours + logical + ".weight"}});
  }

  // w1, w3, w2 of every expert; those of one parameter stand together.
  void add_experts(int64_t experts) {
    add(".block_sparse_moe.gate", ".moe.router");
    const std::pair<const char*, const char*> matrices[] = {{".w1", ".gate"}, {".w3", ".up"}, {".w2", ".down"}};
    for (const auto& matrix : matrices)
      for (int64_t e = 0; e < experts; ++e)
        map.push_back({theirs + ".block_sparse_moe.experts." + std::to_string(e) + matrix.first + ".weight",
                       {ours + ".moe" + matrix.second + ".weight"},
                       false,
                       e});
  }

  void add_fused_experts() {
    add(".mlp.gate", ".moe.router");
    map.push_back({theirs + ".mlp.experts.gate_up_proj", {ours + ".moe.gate.weight", ours + ".moe.up.weight"}});
    map.push_back({theirs + ".mlp.experts.down_proj", {ours + ".moe.down.weight"}});
  }
};

NameMap names_of(const MixtralConfig& config, bool fused) {
  NameMap map;
  map.push_back({"model.embed_tokens.weight", {"embedding.weight"}});
  for (int64_t i = 0; i < config.layers; ++i) {
    Names names{map, "model.layers." + std::to_string(i), mixtral_layer_name(i)};
    names.add(".input_layernorm", ".attention_norm");
    names.add(".self_attn.q_proj", ".attention.q");
    names.add(".self_attn.k_proj", ".attention.k");
    names.add(".self_attn.v_proj", ".attention.v");
    names.add(".self_attn.o_proj", ".attention.out");
    names.add(".post_attention_layernorm", ".moe_norm");
    if (fused)
      names.add_fused_experts();
    else
      names.add_experts(config.experts);
    // Not of transformers, which has no such balance for this family.
    if (config.balance.bias_rate > 0)
      map.push_back({names.theirs + ".block_sparse_moe.gate.e_score_correction_bias",
                     {names.ours + ".moe.router.bias"},
                     false,
                     -1,
                     true});
  }
  map.push_back({"model.norm.weight", {"norm.weight"}});
  if (!config.tie_embeddings) map.push_back({"lm_head.weight", {"head.weight"}});
  return map;
}

}  // namespace

std::string mixtral_layer_name(int64_t layer) { return "layers." + std::to_string(layer); }

ForeignNames mixtral_hugging_face_names(const MixtralConfig& config) {
  ForeignNames names;
  names.map = names_of(config, false);
  names.also_read = {names_of(config, true)};
  names.prefix = "model.";
  names.ignored = {".rotary_emb.inv_freq"};
  if (config.tie_embeddings) names.ignored.push_back("lm_head.weight");
  if (config.balance.bias_rate == 0) names.ignored.push_back(".e_score_correction_bias");
  return names;
}

}  // namespace deepflow
