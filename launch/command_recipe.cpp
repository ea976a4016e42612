#include "launch/command_recipe.h"

#include "core/log.h"
#include "launch/cli.h"
#include "launch/recipe.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

struct CheckArguments {
  std::string file;
  std::vector<std::string> overrides;
  bool resolved = false, comments = false;
};

int check_recipe(const CheckArguments& arguments) {
  const std::unique_ptr<Recipe> recipe = read_recipe(arguments.file, arguments.overrides);
  if (arguments.resolved || arguments.comments) {
    std::fputs(recipe->resolved(arguments.comments).c_str(), stdout);
  } else {
    log_info("{} is a valid recipe", arguments.file);
  }
  return 0;
}

int explain_keys(std::vector<std::string> keys) {
  if (keys.empty()) keys.emplace_back();
  for (const std::string& key : keys) std::fputs(explain_recipe_key(key).c_str(), stdout);
  return 0;
}

int print_reference() {
  std::fputs(recipe_reference().c_str(), stdout);
  return 0;
}

}  // namespace

void add_recipe_command(Cli& cli) {
  CLI::App* recipe = cli.add_command("recipe", "check a recipe, explain its keys", nullptr);

  const auto arguments = std::make_shared<CheckArguments>();
  CLI::App* check = cli.add_command(
      "check", "read a recipe as train would and say what is wrong", [arguments] { return check_recipe(*arguments); },
      recipe);
  check->add_option("recipe", arguments->file, "recipe file (YAML)")->required()->type_name("FILE");
  check->add_option("overrides", arguments->overrides, "key=value with the recipe's own keys (optim.lr=1e-3)")
      ->type_name("KEY=VALUE");
  check->add_flag("--resolved", arguments->resolved, "print the recipe with every key");
  check->add_flag("--comments", arguments->comments, "print it with every key and what the keys mean");

  const auto keys = std::make_shared<std::vector<std::string>>();
  CLI::App* explain = cli.add_command(
      "explain", "meaning, unit, default, range and source of a key", [keys] { return explain_keys(*keys); }, recipe);
  explain->add_option("keys", *keys, "a key (optim.clip) or a section (optim); none: all sections")->type_name("KEY");

  cli.add_command("reference", "print the reference page of all keys (Markdown)", print_reference, recipe);
}

}  // namespace deepflow
