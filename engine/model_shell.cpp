#include "engine/model_shell.h"

#include "core/error.h"
#include "core/option.h"
#include "core/option_yaml.h"
#include "core/runtime.h"
#include "models/options.h"
#include "models/registry.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace deepflow {
namespace {

std::unique_ptr<ModelConfig> config_of(const nlohmann::json& config, const std::string& where) {
  if (!config.is_object()) throw DataError("{}: needs a JSON object, got {}", where, config.type_name());
  if (config.contains("model_type")) return model_config_from_hf(config, where);
  if (!config.contains("family"))
    throw DataError("{}: there is neither model_type, as in a config.json, nor family, as in a recipe", where);
  ModelOptions options;
  OptionGroup keys("model");
  declare(keys, options);
  keys.read(parse_yaml(config.dump(), where, false));  // JSON is YAML as well
  options.fill_in(0, 0, &keys);
  return options.config().clone();
}

// Whether some of the module is in the folder: of what may be missing in one all but routers' biases is the module's.
bool holds_module(const HfFolder& folder, const ForeignNames& names, ParameterRegistry& registry) {
  return std::any_of(names.map.begin(), names.map.end(), [&](const NameMapEntry& entry) {
    const bool own = entry.optional && registry.find(entry.logical.front())->spec.role != Role::kBuffer;
    return own && folder.holds(names, entry.external);
  });
}

}  // namespace

ModelShell::ModelShell(const nlohmann::json& config, const std::string& where, ModuleInFile module)
    : config_(config_of(config, where)) {
  using HfModule = ModelConfig::HfModule;
  const bool unexpected = config_->hf_module() == HfModule::kUnexpected;
  if (config_->hf_module() != HfModule::kNone &&
      (module == ModuleInFile::kLeaveOut || (module == ModuleInFile::kAuto && unexpected))) {
    left_out_ = fmt::format("left out: the module of multi-token prediction (layer {}), {}", config_->num_layers(),
                            module == ModuleInFile::kLeaveOut ? "as asked"
                                                              : "of which transformers would warn in a model of so few "
                                                                "or many layers");
    config_->leave_out_module();
  }
  build();
}

ModelShell::ModelShell(const HfFolder& folder) : ModelShell(folder.config(), folder.config_path()) {
  if (config_->hf_module() == ModelConfig::HfModule::kNone || holds_module(folder, names_, registry_)) return;
  left_out_ = fmt::format("left out: the module of multi-token prediction, which {} does not hold", folder.dir());
  config_->leave_out_module();
  build();
}

void ModelShell::build() {
  Runtime runtime({.threads = 1});
  registry_ = ParameterRegistry();
  names_ = config_->build(runtime, registry_, Recompute::kNone)->hugging_face_names();
  registry_.freeze({});
}

}  // namespace deepflow
