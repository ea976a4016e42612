#include "launch/recipe.h"

#include "core/option_text.h"
#include "core/option_yaml.h"

namespace deepflow {

Recipe::Recipe() { declare(keys, *this); }

std::string Recipe::resolved(bool comments) const { return to_yaml(keys.write(), comments); }

std::unique_ptr<Recipe> read_recipe(const std::string& file, const std::vector<std::string>& overrides) {
  OptionValue tree = read_yaml_file(file);
  for (const std::string& assignment : overrides) apply_override(tree, assignment);
  auto recipe = std::make_unique<Recipe>();
  recipe->keys.read(tree);
  return recipe;
}

std::string explain_recipe_key(const std::string& key) { return explain_option(Recipe().keys, key); }

std::string recipe_reference() {
  return reference_markdown(
      Recipe().keys, "Recipe reference",
      "Every key of a recipe. This page is printed by `deepflow recipe reference`; a test keeps it current.\n"
      "`deepflow recipe explain KEY` says the same about one key. Each key can be set on the command line as well:\n"
      "`deepflow train recipe.yaml optim.lr=1e-3`, lists and maps in YAML's flow style.");
}

}  // namespace deepflow
