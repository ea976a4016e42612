#include "models/gemma2/config.h"

#include "models/extents.h"
#include "models/gemma2/model.h"
#include "models/parts/sliding_window.h"

namespace deepflow {
namespace {

// A cap that is null or absent: `absent` where it is not there at all, none where it is null.
double read_cap(const HfConfig& config, const std::string& key, double absent) {
  const double cap = config.is_null(key) ? 0 : config.number(key, absent);
  if (cap < 0) config.fail(key, "needs to be above 0, got {}", cap);
  return cap;
}

nlohmann::json or_null(double value) { return value > 0 ? nlohmann::json(value) : nlohmann::json(); }

}  // namespace

void Gemma2Config::declare(OptionGroup& group) {
  DecoderConfig::declare(group);
  group.add("sliding_window", sliding_window)
      .help("in the first layer and every other one a token sees itself and this many less one before it; 0: all")
      .unit("tokens")
      .range(0, kLargestExtent)
      .source("Beltagy et al. 2020");
  group.add("query_pre_attn_scalar", query_pre_attn_scalar)
      .help("scores are divided by its root; 0: head_dim")
      .at_least(0);
  group.add("attention_softcap", attention_softcap)
      .help("scores s become c tanh(s / c); 0: they stay")
      .at_least(0)
      .source("Bello et al. 2016");
  group.add("logit_softcap", logit_softcap).help("the same for logits").at_least(0);
}

void Gemma2Config::fill_in(int64_t vocabulary_size, int64_t sequence) {
  DecoderConfig::fill_in(vocabulary_size, sequence);
  if (query_pre_attn_scalar == 0) query_pre_attn_scalar = head_dim;
}

void Gemma2Config::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 26,
                           .width = 2304,
                           .heads = 8,
                           .kv_heads = 4,
                           .head_dim = 256,
                           .ffn = 9216,
                           .vocabulary = 256000,
                           .max_positions = 8192,
                           .tie_embeddings = true});
  query_pre_attn_scalar = config.positive("query_pre_attn_scalar", 256);
  sliding_window = config.is_null("sliding_window") ? 0 : config.positive("sliding_window", 4096);
  attention_softcap = read_cap(config, "attn_logit_softcapping", 50);
  logit_softcap = read_cap(config, "final_logit_softcapping", 30);
  check_hf_layer_types(config, layers, [this](int64_t layer) { return window_of(layer); });
  check_hf_activation(config, "hidden_activation", "gelu_pytorch_tanh", "gelu_new");
  for (const char* key : {"attention_bias", "use_bidirectional_attention"})
    if (config.boolean(key, false)) config.fail(key, "true is not implemented");
}

nlohmann::json Gemma2Config::to_hf() const {
  return to_hf_decoder("Gemma2ForCausalLM",
                       {{"hidden_act", "gelu_pytorch_tanh"},
                        {"hidden_activation", "gelu_pytorch_tanh"},
                        {"query_pre_attn_scalar", query_pre_attn_scalar},
                        {"sliding_window", sliding_window > 0 ? nlohmann::json(sliding_window) : nlohmann::json()},
                        {"layer_types", hf_layer_types(layers, [this](int64_t layer) { return window_of(layer); })},
                        {"attn_logit_softcapping", or_null(attention_softcap)},
                        {"final_logit_softcapping", or_null(logit_softcap)},
                        {"attention_bias", false},
                        {"pad_token_id", nullptr}});
}

std::unique_ptr<CausalModel> Gemma2Config::build(Runtime& runtime, ParameterRegistry& registry,
                                                 Recompute recompute) const {
  return std::make_unique<Gemma2Model>(*this, runtime, registry, recompute);
}

}  // namespace deepflow
