#include "core/error.h"
#include "core/option.h"
#include "core/option_yaml.h"
#include "models/gpt2/config.h"
#include "models/llama/config.h"
#include "models/options.h"
#include "tests/core/error_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace deepflow {
namespace {

using ::testing::HasSubstr;

// The `model:` section of a recipe, read.
struct Section {
  OptionGroup group{"model"};
  ModelOptions options;

  explicit Section(const std::string& yaml) {
    declare(group, options);
    group.read(parse_yaml(yaml, "recipe.yaml"));
  }
  const LlamaConfig& llama() { return dynamic_cast<const LlamaConfig&>(options.config()); }
  const Gpt2Config& gpt2() { return dynamic_cast<const Gpt2Config&>(options.config()); }
};

using testing::error_of;

const nlohmann::json kGpt2Json = {{"model_type", "gpt2"}, {"n_layer", 2},     {"n_embd", 32},
                                  {"n_head", 4},          {"vocab_size", 97}, {"n_positions", 64}};

TEST(ModelOptions, FillsInWhatARecipeLeavesOut) {
  Section s("{family: llama, layers: 6, width: 256, heads: 8, tie_embeddings: true}");
  s.options.fill_in(4096, 512, &s.group);
  EXPECT_EQ(s.llama().layers, 6);
  EXPECT_EQ(s.llama().kv_heads, 8);
  EXPECT_EQ(s.llama().head_dim, 32);
  EXPECT_EQ(s.llama().ffn, 704);
  EXPECT_EQ(s.llama().vocabulary, 4096);
  EXPECT_EQ(s.llama().max_positions, 512);
  EXPECT_TRUE(s.llama().tie_embeddings);
}

TEST(ModelOptions, ReadsTheKeysOfTheChosenFamilyOnly) {
  Section s("{family: gpt2, layers: 2, width: 64, heads: 4, dropout: 0.1, gelu: exact}");
  EXPECT_FLOAT_EQ(s.gpt2().dropout, 0.1f);
  EXPECT_EQ(s.gpt2().gelu, GeluKind::kExact);
  EXPECT_THAT(error_of([] { Section("{family: llama, dropout: 0.1}"); }), HasSubstr("dropout is a key of"));
  EXPECT_THAT(error_of([] { Section("{family: gtp2}"); }), HasSubstr("model.family"));
}

TEST(ModelOptions, ReadsRopeScaling) {
  Section s("{layers: 1, width: 8, heads: 1, rope_scaling: {type: linear, factor: 2}}");
  ASSERT_TRUE(s.llama().rope_scaling.has_value());
  EXPECT_EQ(rope_options(s.llama()).linear_factor, 2);
  EXPECT_FALSE(rope_options(s.llama()).llama3.has_value());
  Section y("{layers: 1, width: 8, heads: 1, rope_scaling: {type: yarn, factor: 2, original_max_positions: 64}}");
  ASSERT_TRUE(rope_options(y.llama()).yarn.has_value());
  EXPECT_EQ(rope_options(y.llama()).yarn->original_max_positions, 64);
  EXPECT_EQ(rope_options(y.llama()).yarn->beta_fast, 32);
}

TEST(ModelOptions, SaysWhatDoesNotFit) {
  const struct {
    std::string yaml, message;
  } cases[] = {
      {"{width: 8, heads: 1}", "model.layers is missing"},
      {"{layers: 1, width: 10, heads: 4}", "model.heads 4 does not divide 10 columns"},
      {"{layers: 1, width: 12, heads: 4}", "model.head_dim 3 is odd"},
      {"{layers: 1, width: 16, heads: 4, kv_heads: 3}", "model.kv_heads 3 does not divide 4 heads"},
      {"{family: gpt2, layers: 1, width: 10, heads: 3}", "model.heads 3 does not divide 10 columns"},
  };
  for (const auto& c : cases) {
    Section s(c.yaml);
    EXPECT_THAT(error_of([&] { s.options.fill_in(97, 16, &s.group); }), HasSubstr(c.message)) << c.yaml;
  }
}

TEST(ModelOptions, TakesTheArchitectureFromAFolderAndTheRestFromTheRecipe) {
  Section s("{init_from: somewhere, family: gpt2, dropout: 0.2}");
  s.options.read_hf(kGpt2Json, "somewhere/config.json", &s.group);
  s.options.fill_in(50000, 1024, &s.group);
  EXPECT_EQ(s.gpt2().layers, 2);
  EXPECT_EQ(s.gpt2().vocabulary, 97);
  EXPECT_EQ(s.gpt2().max_positions, 64);
  EXPECT_FLOAT_EQ(s.gpt2().dropout, 0.2f);
}

TEST(ModelOptions, TakesWhatTheRecipeSaysOverTheFolder) {
  Section s("{init_from: somewhere, family: gpt2, layers: 5}");
  s.options.read_hf(kGpt2Json, "somewhere/config.json", &s.group);
  EXPECT_EQ(s.gpt2().layers, 5);
  EXPECT_EQ(s.gpt2().width, 32);
}

TEST(ModelOptions, FindsTheFamilyOfAFolder) {
  Section s("{init_from: somewhere}");
  s.options.read_hf(kGpt2Json, "somewhere/config.json", &s.group);
  EXPECT_EQ(s.options.family, "gpt2");
  EXPECT_EQ(s.gpt2().width, 32);
}

TEST(ModelOptions, RefusesKeysOfAnotherFamilyThanTheFolders) {
  Section said("{init_from: somewhere, family: llama}");
  EXPECT_THAT(error_of([&] { said.options.read_hf(kGpt2Json, "c", &said.group); }),
              HasSubstr("model.family is llama, but model.init_from holds a gpt2 model"));
  Section silent("{init_from: somewhere, rope_theta: 500}");
  EXPECT_THAT(error_of([&] { silent.options.read_hf(kGpt2Json, "c", &silent.group); }),
              HasSubstr("model.rope_theta is a key of model.family llama"));
}

TEST(ModelOptions, AreCopiedWhole) {
  Section s("{layers: 3, width: 8, heads: 1}");
  ModelOptions copy = s.options;
  dynamic_cast<LlamaConfig&>(s.options.config()).layers = 5;
  EXPECT_EQ(dynamic_cast<LlamaConfig&>(copy.config()).layers, 3);
}

}  // namespace
}  // namespace deepflow
