#include "engine/model_shell.h"

#include "core/error.h"
#include "core/option.h"
#include "core/option_yaml.h"
#include "core/runtime.h"
#include "models/options.h"
#include "models/registry.h"
#include "tests/core/error_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>

namespace deepflow {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const json kLlama = {{"model_type", "llama"},        {"num_hidden_layers", 2}, {"hidden_size", 16},
                     {"num_attention_heads", 2},     {"vocab_size", 97},       {"intermediate_size", 24},
                     {"max_position_embeddings", 32}};

json deepseek(int64_t layers) {
  return {{"model_type", "deepseek_v3"},
          {"num_hidden_layers", layers},
          {"hidden_size", 16},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 2},
          {"vocab_size", 97},
          {"intermediate_size", 24},
          {"moe_intermediate_size", 8},
          {"n_routed_experts", 4},
          {"num_experts_per_tok", 2},
          {"n_group", 1},
          {"topk_group", 1},
          {"q_lora_rank", 8},
          {"kv_lora_rank", 8},
          {"qk_nope_head_dim", 4},
          {"qk_rope_head_dim", 4},
          {"v_head_dim", 4},
          {"first_k_dense_replace", 1}};
}

using testing::error_of;

TEST(ModelShell, HasTheParametersAndNamesOfAConfig) {
  ModelShell shell(kLlama, "config.json");
  EXPECT_EQ(shell.config().family(), "llama");
  const Parameter* gate = shell.registry().find("layers.1.mlp.gate.weight");
  ASSERT_NE(gate, nullptr);
  EXPECT_EQ(gate->local_shape, (Shape{24, 16}));
  EXPECT_EQ(shell.names().map.front().external, "model.embed_tokens.weight");
  EXPECT_EQ(shell.left_out(), "");
}

TEST(ModelShell, ReadsARecipesModelSectionToTheSameModel) {
  ModelShell of_config(kLlama, "config.json");
  const json section = {{"family", "llama"}, {"layers", 2},      {"width", 16},         {"heads", 2},
                        {"ffn", 24},         {"vocabulary", 97}, {"max_positions", 32}, {"norm_eps", 1e-6}};
  ModelShell of_recipe(section, "recipe");
  EXPECT_EQ(of_recipe.config().to_hf(), of_config.config().to_hf());
  EXPECT_EQ(of_recipe.registry().num_elements(), of_config.registry().num_elements());
}

TEST(ModelShell, ReadsASectionOfEveryFamily) {
  for (const auto& family : make_model_configs()) {
    json section = {{"family", family->family()}, {"layers", 2},         {"width", 16},     {"heads", 2},
                    {"vocabulary", 97},           {"max_positions", 32}, {"init_std", 0.01}};
    ModelOptions options;
    OptionGroup keys("model");
    declare(keys, options);
    keys.read(parse_yaml("{family: " + family->family() + ", layers: 2, width: 16, heads: 2, init_std: 0.01}", "test"));
    options.fill_in(97, 32, &keys);
    EXPECT_EQ(ModelShell(section, "recipe").config().to_hf(), options.config().to_hf()) << family->family();
  }
}

TEST(ModelShell, TakesNoMemoryForWeights) {
  std::ifstream file(std::string(DEEPFLOW_MODELS) + "/deepseek_v3/deepseek_v3.json");
  ModelShell shell(json::parse(file), "deepseek_v3.json", ModuleInFile::kAuto);
  EXPECT_GT(shell.registry().num_elements(), int64_t{670'000'000'000});
  EXPECT_EQ(shell.left_out(), "") << "transformers passes over the module of the published model";
  EXPECT_NE(shell.registry().find("mtp.projection.weight"), nullptr);
}

TEST(ModelShell, LeavesOutAModuleThatTransformersWouldWarnOf) {
  ModelShell kept(deepseek(2), "config.json"), left(deepseek(2), "config.json", ModuleInFile::kAuto);
  EXPECT_NE(kept.registry().find("mtp.projection.weight"), nullptr);
  EXPECT_EQ(kept.config().to_hf()["num_nextn_predict_layers"], 1);
  EXPECT_EQ(left.registry().find("mtp.projection.weight"), nullptr);
  EXPECT_EQ(left.config().to_hf()["num_nextn_predict_layers"], 0);
  EXPECT_THAT(left.left_out(), HasSubstr("left out: the module of multi-token prediction (layer 2)"));
  for (const NameMapEntry& entry : left.names().map) EXPECT_FALSE(entry.external.starts_with("model.layers.2."));
  ModelShell published(deepseek(61), "config.json", ModuleInFile::kAuto);
  EXPECT_NE(published.registry().find("mtp.projection.weight"), nullptr);
  ModelShell asked(deepseek(61), "config.json", ModuleInFile::kLeaveOut);
  EXPECT_EQ(asked.registry().find("mtp.projection.weight"), nullptr);
  EXPECT_THAT(asked.left_out(), HasSubstr("as asked"));
}

TEST(ModelShell, RefusesWhatIsNoModel) {
  EXPECT_THAT(error_of([] { ModelShell(json::array(), "x"); }), HasSubstr("x: needs a JSON object, got array"));
  EXPECT_THAT(error_of([] { ModelShell(json::object(), "x"); }), HasSubstr("x: there is neither model_type"));
  EXPECT_THAT(error_of([] { ModelShell(json{{"family", "llama"}, {"layers", 2}}, "x"); }), HasSubstr("model.width"));
  EXPECT_THAT(error_of([] { ModelShell(json{{"family", "llama"}, {"depth", 2}}, "x"); }), HasSubstr("depth"));
  EXPECT_THAT(error_of([] { ModelShell(json{{"model_type", "bert"}}, "x"); }), HasSubstr("bert"));
}

}  // namespace
}  // namespace deepflow
