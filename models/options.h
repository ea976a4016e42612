#pragma once

#include "core/option_group.h"
#include "models/config.h"

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// The `model:` section of a recipe: {family: llama, layers: 6, ...} or {init_from: DIR}, where DIR is a Hugging Face
// folder. Holds every family's configuration; that of `family` counts.
class ModelOptions {
 public:
  ModelOptions();
  ModelOptions(const ModelOptions& other);
  ModelOptions& operator=(const ModelOptions& other);

  std::string family;
  std::string init_from;  // empty: initial weights are random
  Recompute recompute = Recompute::kNone;

  ModelConfig& config();
  const ModelConfig& config() const;
  // Takes a configuration that the registry does not know, with its family.
  void set_config(std::unique_ptr<ModelConfig> config);

  // With init_from: takes family and architecture from its config.json. Keys that the recipe gives override it (a new
  // rope_scaling, dropout); one that changes the shape of a parameter is met when the tensors are loaded. `group` is
  // the one that declare() filled for this object, null when there is no recipe.
  void read_hf(const nlohmann::json& config, const std::string& where, const OptionGroup* group);

  // Fills what the recipe leaves out, then throws ConfigError unless all of it fits together. `group` may be null.
  void fill_in(int64_t vocabulary, int64_t sequence, const OptionGroup* group);

 private:
  friend void declare(OptionGroup& group, ModelOptions& options);
  std::vector<std::unique_ptr<ModelConfig>> configs_;
};

void declare(OptionGroup& group, ModelOptions& options);

}  // namespace deepflow
