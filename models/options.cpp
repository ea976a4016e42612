#include "models/options.h"

#include "core/option.h"
#include "models/hf_config.h"
#include "models/registry.h"

namespace deepflow {
namespace {

// What the recipe says about `config`'s family, as a map to read again.
OptionValue given_keys(const OptionGroup& group, const ModelConfig& config) {
  OptionValue map = OptionValue::map();
  for (const OptionGroup::Variant& variant : group.variants()) {
    for (const auto& option : variant.group->options()) {
      if (!option->given()) continue;
      if (variant.value != config.family())
        fail_option(option->place(), fmt::format("{} is a key of model.family {}, but model.init_from holds a {} model",
                                                 option->path(), variant.value, config.family()));
      map.entries.push_back({option->name(), option->place(), option->write(), ""});
    }
  }
  return map;
}

}  // namespace

ModelOptions::ModelOptions() : configs_(make_model_configs()) { family = configs_.front()->family(); }

ModelOptions::ModelOptions(const ModelOptions& other)
    : family(other.family), init_from(other.init_from), recompute(other.recompute) {
  for (const auto& config : other.configs_) configs_.push_back(config->clone());
}

ModelOptions& ModelOptions::operator=(const ModelOptions& other) {
  ModelOptions copy(other);
  std::swap(family, copy.family);
  std::swap(init_from, copy.init_from);
  std::swap(recompute, copy.recompute);
  std::swap(configs_, copy.configs_);
  return *this;
}

const ModelConfig& ModelOptions::config() const {
  for (const auto& config : configs_)
    if (config->family() == family) return *config;
  throw ConfigError("model.family {} is not known", family);
}

void ModelOptions::set_config(std::unique_ptr<ModelConfig> config) {
  family = config->family();
  configs_.push_back(std::move(config));
}

ModelConfig& ModelOptions::config() { return const_cast<ModelConfig&>(std::as_const(*this).config()); }

void ModelOptions::read_hf(const nlohmann::json& json, const std::string& where, const OptionGroup* group) {
  const std::string found = model_config_from_hf(json, where)->family();
  if (group && group->given("family") && family != found)
    group->fail("family", "is {}, but model.init_from holds a {} model ({})", family, found, where);
  family = found;
  const OptionValue given = group ? given_keys(*group, config()) : OptionValue::map();  // before they are read over
  config().read_hf(HfConfig(json, where));
  OptionGroup again("model");
  config().declare(again);
  again.read(given);
}

void ModelOptions::fill_in(int64_t vocabulary, int64_t sequence, const OptionGroup* group) {
  config().fill_in(vocabulary, sequence);
  const auto problem = config().problem();
  if (!problem) return;
  if (group) group->fail(problem->key, "{}", problem->text);
  throw ConfigError("model.{} {}", problem->key, problem->text);
}

void declare(OptionGroup& group, ModelOptions& options) {
  std::vector<std::string> families;
  for (const auto& config : options.configs_) families.push_back(config->family());
  group.add("family", options.family).one_of(families).help("kind of transformer; with init_from its own");
  group.add("init_from", options.init_from)
      .help(
          "Hugging Face folder (config.json, safetensors) or checkpoint with the initial weights; empty: random ones");
  group.add("recompute", options.recompute)
      .values({{"none", Recompute::kNone},
               {"selective", Recompute::kSelective},
               {"full", Recompute::kFull},
               {"auto", Recompute::kAuto}})
      .help(
          "what backward makes again; selective: normed rows and activations, from the results of products; full: keep "
          "only each block's input and run its forward again; auto: for each block the least that fits "
          "train.memory_budget. The result is the same, bit for bit")
      .source("Chen et al. 2016, Korthikanti et al. 2022");
  for (const auto& config : options.configs_) config->declare(group.variant("family", config->family()));
}

}  // namespace deepflow
