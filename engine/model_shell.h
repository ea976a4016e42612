#pragma once

#include "checkpoint/hf_folder.h"
#include "core/name_map.h"
#include "core/parameter_registry.h"
#include "models/config.h"

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <optional>
#include <string>

namespace deepflow {

// Whether a model's module of multi-token prediction belongs to a file. kAuto: where transformers passes over it in
// silence, that is in a model of the published number of layers; in any other it would warn of unexpected tensors.
enum class ModuleInFile : uint8_t { kAuto, kKeep, kLeaveOut };

// A model without values: what its parameters are and what Hugging Face folders call them, whole, on one rank. With a
// source of whole values (ForeignTensor::WholeValue) that is all that write_hf_folder and write_hdf5_model need.
class ModelShell {
 public:
  // config: what a config.json holds, or the `model` section of a resolved recipe ({"family": "llama", ...}). `where`
  // is for messages. Throws DataError or ConfigError for a model that is not there or does not fit together.
  ModelShell(const nlohmann::json& config, const std::string& where, ModuleInFile module = ModuleInFile::kKeep);
  // Of a folder as it is: what transformers writes lacks the module that its config.json names.
  explicit ModelShell(const HfFolder& folder);

  const ModelConfig& config() const { return *config_; }  // of what is left: its to_hf() is the config.json
  ParameterRegistry& registry() { return registry_; }     // frozen
  const ForeignNames& names() const { return names_; }
  // What was left out and why, as a line for the user; empty: nothing.
  const std::string& left_out() const { return left_out_; }

 private:
  void build();

  std::unique_ptr<ModelConfig> config_;
  ParameterRegistry registry_;
  ForeignNames names_;
  std::string left_out_;
};

}  // namespace deepflow
