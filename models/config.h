#pragma once

#include "core/option.h"
#include "core/runtime.h"
#include "models/model.h"
#include "models/parts/block_stack.h"

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <optional>
#include <string>

namespace deepflow {

class HfConfig;

// What a family's recipe keys and a Hugging Face config.json fill: everything that tells one model of the family from
// another. A value type behind a base class; families register one in models/registry.cpp.
class ModelConfig {
 public:
  virtual ~ModelConfig() = default;

  virtual std::string family() const = 0;  // model.family, and model_type in config.json
  virtual std::unique_ptr<ModelConfig> clone() const = 0;

  // The family's keys below `model:`. The group must not outlive this object.
  virtual void declare(OptionGroup& group) = 0;

  // Takes the architecture from a config.json; what is no part of it (dropout) stays. Throws DataError for values that
  // the family does not implement.
  virtual void read_hf(const HfConfig& config) = 0;
  // A config.json of transformers without "dtype": readable by its versions 4 and 5.
  virtual nlohmann::json to_hf() const = 0;

  // The module of multi-token prediction (models/parts/mtp.h) as transformers sees it in a folder of this model: it has
  // its own list of layers whose tensors it passes over, those behind published models; others bring a warning.
  enum class HfModule : uint8_t { kNone, kPassedOver, kUnexpected };
  virtual HfModule hf_module() const { return HfModule::kNone; }
  virtual void leave_out_module() {}

  // Fills what a recipe may leave out: the tokenizer's vocabulary, the data's sequence length, derived extents.
  virtual void fill_in(int64_t vocabulary, int64_t sequence) = 0;

  virtual int64_t num_layers() const = 0;
  virtual void set_layers(int64_t layers) = 0;

  // The first thing that cannot be, once filled in.
  struct Problem {
    std::string key, text;  // "kv_heads", "6 does not divide 8 heads"
  };
  virtual std::optional<Problem> problem() const = 0;

  // Declares the parameters in the registry (not frozen yet), which must outlive the model. Needs problem() == nullopt.
  virtual std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry,
                                             Recompute recompute) const = 0;
};

}  // namespace deepflow
