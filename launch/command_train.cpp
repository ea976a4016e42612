#include "launch/command_train.h"

#include "core/error.h"
#include "engine/training_run.h"
#include "launch/cli.h"
#include "launch/recipe.h"

#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

struct TrainArguments {
  std::string recipe;
  std::vector<std::string> overrides;
};

int train(const TrainArguments& arguments) {
  std::unique_ptr<Recipe> recipe;
  std::exception_ptr error;
  try {
    recipe = read_recipe(arguments.recipe, arguments.overrides);
  } catch (const Error&) {
    error = std::current_exception();
  }
  // Ranks that are connected end the job themselves; otherwise the launcher adds many lines of its own to the error.
  return run_world(recipe ? recipe->parallel.comm : CommOptions(), [&](World& world) {
    if (error) std::rethrow_exception(error);
    run_training(*recipe, recipe->keys, world);
    return 0;
  });
}

}  // namespace

void add_train_command(Cli& cli) {
  const auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command =
      cli.add_command("train", "train a model as a recipe says", [arguments] { return train(*arguments); });
  command->add_option("recipe", arguments->recipe, "recipe file (YAML)")->required()->type_name("FILE");
  command->add_option("overrides", arguments->overrides, "key=value with the recipe's own keys (optim.lr=1e-3)")
      ->type_name("KEY=VALUE");
}

}  // namespace deepflow
