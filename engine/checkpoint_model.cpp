#include "engine/checkpoint_model.h"

#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/boxes.h"
#include "checkpoint/mismatch.h"
#include "core/error.h"
#include "core/option.h"
#include "core/option_yaml.h"
#include "kernels/ops/elementwise.h"
#include "models/options.h"

#include <nlohmann/json.hpp>

namespace deepflow {
namespace {

using Json = nlohmann::json;

Json config_of_recipe(const std::string& yaml, const std::string& where) {
  const OptionValue recipe = parse_yaml(yaml, where, false);
  for (const OptionEntry& section : recipe.entries) {
    if (section.key != "model") continue;
    ModelOptions options;
    OptionGroup keys("model");
    declare(keys, options);
    keys.read(section.value);
    options.fill_in(0, 0, &keys);
    return options.config().to_hf();
  }
  throw DataError("{}: the recipe of its run has no model", where);
}

}  // namespace

Json model_of_run(const std::string& run, const std::string& where) {
  const Json json = Json::parse(run, nullptr, false);
  if (json.is_object() && json.contains("model") && json["model"].is_object()) return json["model"];
  if (!json.is_object() || !json.contains("recipe") || !json["recipe"].is_string())
    throw DataError("{}: does not say what model it is of (neither recipe nor model in its manifest)", where);
  return config_of_recipe(json["recipe"], where);
}

CheckpointModel::CheckpointModel(Runtime& runtime, const StoredCheckpoint& checkpoint, ModuleInFile module)
    : runtime_(runtime), checkpoint_(checkpoint), reader_(checkpoint, &runtime.pool()) {
  const Json config = model_of_run(checkpoint.manifest().run, checkpoint.path());
  shell_ = std::make_unique<ModelShell>(config, checkpoint.path(), ModuleInFile::kKeep);
  check(shell_->registry());
  if (module != ModuleInFile::kKeep) shell_ = std::make_unique<ModelShell>(config, checkpoint.path(), module);
}

void CheckpointModel::check(ParameterRegistry& registry) const {
  Mismatch mismatch;
  for (const Parameter& p : registry.parameters()) {
    const StoredTensor* t = checkpoint_.manifest().find(kParametersPrefix + p.spec.name);
    if (!t)
      mismatch.missing.push_back(p.spec.name);
    else if (!(t->shape == p.spec.shape) || t->dtype == DType::kI32 || t->dtype == DType::kI64 ||
             t->dtype == DType::kU8)
      mismatch.misshapen.push_back(fmt::format("{} (the model has {}, the checkpoint {} {})", p.spec.name,
                                               p.spec.shape.to_string(), name_of(t->dtype), t->shape.to_string()));
  }
  for (const StoredTensor& t : checkpoint_.manifest().tensors)
    if (t.name.starts_with(kParametersPrefix) && !registry.find(t.name.substr(std::string(kParametersPrefix).size())))
      mismatch.unexpected.push_back(t.name);
  mismatch.throw_if_any(checkpoint_.path());
}

Tensor CheckpointModel::operator()(const Parameter& p) { return read(p, {whole_box(p.spec.shape)}, p.spec.shape); }

Tensor CheckpointModel::local(const Parameter& p) { return read(p, p.boxes, p.local_shape); }

Tensor CheckpointModel::read(const Parameter& p, const std::vector<Box>& boxes, const Shape& shape) {
  const StoredTensor* stored = checkpoint_.manifest().find(kParametersPrefix + p.spec.name);
  DF_ASSERT(stored, "{} was compared with the checkpoint", p.spec.name);
  Tensor value = Tensor::empty(runtime_.memory(), shape, stored->dtype);
  reader_.read(*stored, boxes, {static_cast<char*>(value.raw()), value.num_bytes()});
  if (stored->dtype == DType::kF32) return value;
  Tensor wide = Tensor::empty(runtime_.memory(), shape, DType::kF32);
  copy(runtime_, value, wide);
  return wide;
}

}  // namespace deepflow
