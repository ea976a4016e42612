#include "models/hf_config.h"

#include "core/error.h"
#include "models/gemma2/config.h"
#include "models/gpt2/config.h"
#include "models/llama/config.h"
#include "models/qwen2/config.h"
#include "models/qwen3/config.h"
#include "models/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

template <class T>
T read(const json& config) {
  return dynamic_cast<const T&>(*model_config_from_hf(config, "dir/config.json"));
}

std::string error_of(const json& config) {
  try {
    model_config_from_hf(config, "dir/config.json");
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()).rfind("dir/config.json: ", 0), 0u) << e.what();
    return e.what();
  }
  return "";
}

json llama(const json& more = json::object()) {
  json config = {{"model_type", "llama"},        {"num_hidden_layers", 2}, {"hidden_size", 32},
                 {"num_attention_heads", 4},     {"vocab_size", 97},       {"intermediate_size", 56},
                 {"max_position_embeddings", 64}};
  config.update(more);
  return config;
}

TEST(HfConfig, HasTheDefaultsOfTransformers) {
  const auto gpt2 = read<Gpt2Config>({{"model_type", "gpt2"}});
  EXPECT_EQ(gpt2.layers, 12);
  EXPECT_EQ(gpt2.ffn, 3072);
  EXPECT_EQ(gpt2.vocabulary, 50257);
  EXPECT_TRUE(gpt2.tie_embeddings);
  const auto small = read<LlamaConfig>(llama());
  EXPECT_EQ(small.kv_heads, 4);
  EXPECT_EQ(small.head_dim, 8);
  EXPECT_FLOAT_EQ(small.norm_eps, 1e-6f);
  EXPECT_FALSE(small.tie_embeddings);
  EXPECT_FALSE(small.rope_scaling.has_value());
}

TEST(HfConfig, ReadsWindowsOfQwen) {
  const json window = {{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 1}};
  const auto qwen2 = read<Qwen2Config>(llama({{"model_type", "qwen2"}, {"num_key_value_heads", 2}}));
  EXPECT_EQ(qwen2.window.rows, 0);
  EXPECT_EQ(qwen2.head_dim, 8);
  json upper = llama({{"model_type", "qwen3"}, {"num_key_value_heads", 2}});
  upper.update(window);
  upper["layer_types"] = {"full_attention", "sliding_attention"};
  const auto qwen3 = read<Qwen3Config>(upper);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(qwen3.window.of_layer(0), 0);
  EXPECT_EQ(qwen3.window.of_layer(1), 16);
  EXPECT_EQ(qwen3.to_hf()["layer_types"], upper["layer_types"]);
}

TEST(HfConfig, ReadsCapsAndWindowsOfGemma2) {
  const auto plain = read<Gemma2Config>({{"model_type", "gemma2"}});
  EXPECT_EQ(plain.width, 2304);
  EXPECT_EQ(plain.attention_softcap, 50);
  EXPECT_EQ(plain.logit_softcap, 30);
  EXPECT_EQ(plain.window_of(0), 4096);
  EXPECT_EQ(plain.window_of(1), 0);
  EXPECT_TRUE(plain.tie_embeddings);
  const auto none = read<Gemma2Config>({{"model_type", "gemma2"},
                                        {"attn_logit_softcapping", nullptr},
                                        {"final_logit_softcapping", nullptr},
                                        {"sliding_window", nullptr}});
  EXPECT_EQ(none.attention_softcap, 0);
  EXPECT_EQ(none.logit_softcap, 0);
  EXPECT_EQ(none.window_of(0), 0);
  EXPECT_TRUE(none.to_hf()["final_logit_softcapping"].is_null());
}

TEST(HfConfig, ReadsBothDialectsOfRotaryPositions) {
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 4.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 2.0},
                        {"original_max_position_embeddings", 32}};
  json parameters = scaling;
  parameters["rope_theta"] = 500.0;
  const auto v4 = read<LlamaConfig>(llama({{"rope_theta", 500}, {"rope_scaling", scaling}}));
  const auto v5 = read<LlamaConfig>(llama({{"rope_parameters", parameters}}));
  for (const LlamaConfig& config : {v4, v5}) {
    EXPECT_EQ(config.rope_theta, 500);
    ASSERT_TRUE(config.rope_scaling.has_value());
    EXPECT_EQ(config.rope_scaling->factor, 4);
    EXPECT_EQ(config.rope_scaling->high_freq_factor, 2);
    EXPECT_EQ(config.rope_scaling->original_max_positions, 32);
  }
  const auto oldest = read<LlamaConfig>(llama({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}));
  EXPECT_EQ(oldest.rope_scaling->kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(oldest.rope_theta, 10000);
  EXPECT_FALSE(read<LlamaConfig>(llama({{"rope_scaling", nullptr}})).rope_scaling.has_value());
}

TEST(HfConfig, ReadsBothDialectsOfYarnAndWritesBoth) {
  const json scaling = {{"type", "yarn"},         {"factor", 40},   {"original_max_position_embeddings", 16},
                        {"beta_fast", 16},        {"beta_slow", 2}, {"mscale", 1.0},
                        {"mscale_all_dim", 0.707}};
  json parameters = scaling;
  parameters.erase("type");
  parameters["rope_type"] = "yarn";
  parameters["rope_theta"] = 500.0;
  const auto v4 = read<LlamaConfig>(llama({{"rope_theta", 500}, {"rope_scaling", scaling}}));
  const auto v5 = read<LlamaConfig>(llama({{"rope_parameters", parameters}}));
  const auto again = read<LlamaConfig>(v4.to_hf());
  for (const LlamaConfig& config : {v4, v5, again}) {
    EXPECT_EQ(config.rope_theta, 500);
    const RopeOptions options = rope_options(config);
    ASSERT_TRUE(options.yarn.has_value());
    EXPECT_FALSE(options.llama3.has_value());
    EXPECT_EQ(options.yarn->factor, 40);
    EXPECT_EQ(options.yarn->original_max_positions, 16);
    EXPECT_EQ(options.yarn->beta_fast, 16);
    EXPECT_EQ(options.yarn->beta_slow, 2);
    EXPECT_EQ(options.yarn->mscale, 1);
    EXPECT_EQ(options.yarn->mscale_all_dim, 0.707);
    EXPECT_EQ(options.yarn->attention_factor, 0);
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) EXPECT_EQ(v4.to_hf()[key]["mscale_all_dim"], 0.707);
  const auto silent =
      read<LlamaConfig>(llama({{"max_position_embeddings", 48},
                               {"rope_scaling", {{"type", "yarn"}, {"original_max_position_embeddings", 16}}}}));
  EXPECT_EQ(silent.rope_scaling->factor, 3);
  EXPECT_EQ(silent.rope_scaling->beta_fast, 32);
}

TEST(HfConfig, SurvivesARoundTrip) {
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 16}};
  for (const json& config :
       {llama({{"rope_theta", 5e5}, {"rope_scaling", scaling}, {"head_dim", 6}, {"num_key_value_heads", 2}}),
        llama({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}}, {"tie_word_embeddings", true}}),
        llama({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}, {"attention_factor", 1.5}}}}),
        llama({{"attention_bias", true}, {"mlp_bias", true}, {"rms_norm_eps", 1e-5}}),
        llama({{"model_type", "qwen2"}, {"num_key_value_heads", 2}, {"rope_theta", 1e6}}),
        llama({{"model_type", "qwen3"}, {"num_key_value_heads", 2}, {"attention_bias", true}, {"head_dim", 6}}),
        llama({{"model_type", "gemma2"}, {"num_key_value_heads", 2}, {"sliding_window", 5}, {"head_dim", 6}}),
        json({{"model_type", "gpt2"}, {"n_layer", 3}, {"activation_function", "gelu"}, {"n_inner", 100}})}) {
    const json written = model_config_from_hf(config, "a")->to_hf();
    EXPECT_EQ(model_config_from_hf(written, "b")->to_hf(), written);
    for (const auto& [key, value] : config.items()) {
      if (key != "rope_scaling" && !value.is_number_float()) {
        EXPECT_EQ(written[key], value) << key;
      }
    }
  }
}

TEST(HfConfig, RefusesWhatIsNotImplementedOrMakesNoSense) {
  const struct {
    json config;
    std::string message;
  } cases[] = {
      {json::array(), "needs a JSON object"},
      {json::object(), "model_type \"\" is no family"},
      {{{"model_type", "mamba"}}, "model_type \"mamba\" is no family that is implemented; "},
      {{{"model_type", 5}}, "model_type needs text, got 5"},
      {llama({{"hidden_act", "gelu"}}), "hidden_act gelu is not implemented"},
      {llama({{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}}}), "rope_type dynamic is not implemented"},
      {llama({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", 1}}}}),
       "beta_fast needs to be above beta_slow"},
      {llama({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}, {"mscale", -1}}}}),
       "mscale needs to be at least 0"},
      {llama({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}, {"truncate", false}}}}),
       "truncate false is not implemented"},
      {llama({{"rope_scaling", {{"rope_type", "linear"}}}}), "factor needs to be at least 1"},
      {llama({{"rope_scaling", 3}}), "rope_scaling needs an object, got 3"},
      {llama({{"num_hidden_layers", -1}}), "num_hidden_layers needs to be at least 1, got -1"},
      {llama({{"num_hidden_layers", 1.5}}), "num_hidden_layers needs a whole number, got 1.5"},
      {llama({{"num_hidden_layers", "2"}}), "num_hidden_layers needs a whole number"},
      {llama({{"hidden_size", uint64_t{1} << 63}}), "hidden_size is 9223372036854775808, more than"},
      {llama({{"hidden_size", (1 << 24) + 1}}), "hidden_size is 16777217, more than"},
      {llama({{"num_hidden_layers", 10001}}), "layers 10001 are more than 10000"},
      {llama({{"num_key_value_heads", 3}}), "kv_heads 3 does not divide 4 heads"},
      {llama({{"tie_word_embeddings", "yes"}}), "tie_word_embeddings needs true or false"},
      {llama({{"model_type", "qwen2"}, {"num_key_value_heads", 2}, {"layer_types", {"full_attention"}}}),
       "layer_types names 1 layers of 2"},
      {llama({{"model_type", "qwen2"}, {"num_key_value_heads", 2}, {"layer_types", 7}}), "layer_types needs a list"},
      {{{"model_type", "gemma2"}, {"num_hidden_layers", 1}, {"layer_types", {"full_attention"}}},
       "layer_types has full_attention for layer 0; sliding_attention is implemented there"},
      {{{"model_type", "gemma2"}, {"attn_logit_softcapping", -1}}, "attn_logit_softcapping needs to be above 0"},
      {{{"model_type", "gemma2"}, {"query_pre_attn_scalar", 0}}, "query_pre_attn_scalar needs to be at least 1, got 0"},
      {{{"model_type", "gemma2"}, {"hidden_activation", "silu"}}, "hidden_activation silu is not implemented"},
      {{{"model_type", "gemma2"}, {"attention_bias", true}}, "attention_bias true is not implemented"},
      {{{"model_type", "gpt2"}, {"n_head", 7}}, "heads 7 does not divide 768 columns"},
      {{{"model_type", "gpt2"}, {"activation_function", "relu"}}, "relu is not implemented"},
      {{{"model_type", "gpt2"}, {"scale_attn_weights", false}}, "scale_attn_weights false is not implemented"},
      {{{"model_type", "gpt2"}, {"add_cross_attention", true}}, "add_cross_attention true is not implemented"},
  };
  for (const auto& c : cases) EXPECT_THAT(error_of(c.config), HasSubstr(c.message)) << c.config;
}

}  // namespace
}  // namespace deepflow
