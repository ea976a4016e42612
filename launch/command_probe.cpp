#include "launch/command_probe.h"

#include "core/error.h"
#include "engine/prepare.h"
#include "launch/cli.h"
#include "launch/probe.h"
#include "launch/recipe.h"

#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

struct ProbeArguments {
  std::string init, recipe, precision = "f32";
  std::vector<std::string> overrides;
  int threads = 0;
  ProbeOptions probe;
};

int run_probe(const ProbeArguments& arguments) {
  if (arguments.init.empty() == arguments.recipe.empty())
    throw ConfigError("probe: give either --init DIR or a recipe that describes the model");
  std::unique_ptr<Recipe> recipe;
  RunOptions from_folder;
  if (!arguments.recipe.empty()) recipe = read_recipe(arguments.recipe, arguments.overrides);
  RunOptions& options = recipe ? *recipe : from_folder;
  if (!recipe) options.model.init_from = find_model_folder(arguments.init);
  options.train.precision = arguments.precision;
  options.train.threads = arguments.threads;
  const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.data);
  complete_model(options, tokenizer.get(), recipe ? &recipe->keys : nullptr);
  probe(options, arguments.probe);
  return 0;
}

}  // namespace

void add_probe_command(Cli& cli) {
  const auto arguments = std::make_shared<ProbeArguments>();
  CLI::App* command = cli.add_command("probe", "write a model's logits, loss and gradients for given tokens",
                                      [arguments] { return run_probe(*arguments); });
  command->add_option("recipe", arguments->recipe, "in place of --init: recipe of the model, with its initial values")
      ->type_name("FILE");
  command->add_option("overrides", arguments->overrides, "key=value with the recipe's own keys")
      ->type_name("KEY=VALUE");
  command->add_option("--init", arguments->init, "Hugging Face folder or run folder")->type_name("DIR");
  command->add_option("--tokens", arguments->probe.tokens, "text file: one sequence of token ids a line")
      ->required()
      ->type_name("FILE");
  command->add_option("--out", arguments->probe.out, "safetensors file to write")->required()->type_name("FILE");
  command->add_flag("--grads", arguments->probe.gradients, "also every parameter's gradient, under its folder's name");
  command->add_option("--precision", arguments->precision, "f32, bf16, f16 or int8 (bf16 with int8 products)")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "int8"}))
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "compute threads; 0: the cores it may use");
}

}  // namespace deepflow
