#include "launch/recipe.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace deepflow {
namespace {

class RecipeFile : public testing::Test {
 protected:
  RecipeFile() : name_(testing::TempDir() + "recipe_test." + std::to_string(getpid()) + ".yaml") {}
  ~RecipeFile() override { std::filesystem::remove(name_); }

  std::unique_ptr<Recipe> read(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    std::ofstream(name_) << text;
    return read_recipe(name_, overrides);
  }
  // The message, without the name of the file in front of it.
  std::string error(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    try {
      read(text, overrides);
    } catch (const ConfigError& e) {
      const std::string message = e.what();
      return message.starts_with(name_) ? message.substr(name_.size()) : message;
    }
    return "no error";
  }

  std::string name_;
};

const char* const kQuickstart =
    "# a small model on real text\n"
    "model: {family: llama, layers: 6, width: 256, heads: 8, kv_heads: 4, ffn: 704, tie_embeddings: true}\n"
    "data:\n"
    "  train: data/gcide/train.h5\n"
    "  heldout: data/gcide/heldout.h5\n"
    "  sequence: 256\n"
    "train: {steps: 600, global_batch: 32, precision: bf16}\n"
    "optim: {name: adamw, lr: 2e-3, schedule: warmup_cosine, warmup: 40, weight_decay: 0.1, clip: 1.0}\n"
    "parallel: {}\n";

TEST_F(RecipeFile, SaysWhatIsSpecialAndNothingElse) {
  const auto recipe =
      read(kQuickstart, {"optim.lr=1e-3", "train.steps=100", "data.train=[{store: a.h5, weight: 0.7}]"});
  EXPECT_EQ(recipe->model.family, "llama");
  EXPECT_EQ(recipe->optim.lr, 1e-3);
  EXPECT_EQ(recipe->optim.warmup, 40);
  EXPECT_EQ(recipe->train.steps, 100);
  ASSERT_EQ(recipe->data.train.size(), 1u);
  EXPECT_EQ(recipe->data.train[0].weight, 0.7);
  EXPECT_TRUE(recipe->keys.given("model.kv_heads"));
  EXPECT_FALSE(recipe->keys.given("optim.momentum"));
}

TEST_F(RecipeFile, ErrorsNameTheKeyAndItsLine) {
  EXPECT_EQ(error("\n\noptim: {lr: 1}\ndata: {train: a.h5}\n\n\n\noptim_: 3\n"),
            ":8: optim_ is not a key; did you mean optim?");
  EXPECT_EQ(error("optim:\n  lr: 2e-3\n  warm_up: 40\n"), ":3: optim.warm_up is not a key; did you mean optim.warmup?");
  EXPECT_EQ(error("warmup: 40\n"), ":1: warmup is not a key; did you mean optim.warmup?");
  EXPECT_EQ(error("optim: {lr: -1}\n"), ":1: optim.lr must be 0 to 100, got -1");
  EXPECT_EQ(error("model:\n  family: gpt2\n  kv_heads: 2\n"),
            ":3: model.kv_heads is a key of model.family llama, but model.family is gpt2");
  EXPECT_EQ(error("data: {train: [{weight: 1}]}\n").substr(0, 46), ":1: data.train[0].store is missing and has no ");
  EXPECT_EQ(error("train: fast\n"), ":1: train needs a map of keys, got fast");
  EXPECT_EQ(error(kQuickstart, {"optim.warm_up=3"}),
            "command line: optim.warm_up is not a key; did you mean optim.warmup?");
}

TEST_F(RecipeFile, ExtentsThatNoModelHasAreRefused) {
  for (const char* key : {"width", "heads", "kv_heads", "head_dim", "ffn", "vocabulary", "max_positions"}) {
    EXPECT_EQ(error(kQuickstart, {fmt::format("model.{}=4611686018427387904", key)}),
              fmt::format("command line: model.{} must be 0 to 16777216, got 4611686018427387904", key));
  }
}

TEST_F(RecipeFile, ResolvedRecipeReadsBackTheSame) {
  const std::string resolved = read(kQuickstart)->resolved(false);
  EXPECT_NE(resolved.find("  momentum: "), std::string::npos);  // keys that the recipe does not give are there too
  EXPECT_EQ(read(resolved)->resolved(false), resolved);
  const std::string commented = read(kQuickstart)->resolved(true);
  EXPECT_NE(commented, resolved);
  EXPECT_EQ(read(commented)->resolved(false), resolved);
}

void expect_help(const OptionGroup& group) {
  for (const auto& option : group.options()) {
    EXPECT_NE(option->help_text(), "") << option->path();
    EXPECT_EQ(option->help_text().find('\n'), std::string::npos) << option->path();
    if (option->keys()) expect_help(*option->keys());
  }
  for (const auto& variant : group.variants()) expect_help(*variant.group);
}

TEST(Recipe, EveryKeyHasHelp) { expect_help(Recipe().keys); }

TEST(Recipe, ReferencePageIsCurrent) {
  std::ostringstream page;
  page << std::ifstream(DEEPFLOW_SOURCE "/docs/recipe.md").rdbuf();
  EXPECT_EQ(page.str(), recipe_reference()) << "run: deepflow recipe reference > docs/recipe.md";
}

}  // namespace
}  // namespace deepflow
