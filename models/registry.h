#pragma once

#include "models/config.h"

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// One empty configuration per family, in the order in which help lists them. A new family is a folder and a line in
// registry.cpp.
std::vector<std::unique_ptr<ModelConfig>> make_model_configs();

// The configuration of a Hugging Face folder, by its model_type. `where` is for messages: "DIR/config.json".
std::unique_ptr<ModelConfig> model_config_from_hf(const nlohmann::json& config, const std::string& where);

}  // namespace deepflow
