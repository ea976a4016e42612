#pragma once

#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/blockstore/tensor_reader.h"
#include "core/runtime.h"
#include "engine/model_shell.h"

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>

namespace deepflow {

inline constexpr const char* kParametersPrefix = "parameters/";  // of a parameter's name in a checkpoint

// The model of a checkpoint: its parameters, and their values as they are asked for. std::ref of it is a
// ForeignTensor::WholeValue.
class CheckpointModel {
 public:
  // Throws DataError for a checkpoint that does not say what model it is of, and one that lists all parameters that are
  // missing, of another shape, or not of the model. runtime: its pool reads.
  CheckpointModel(Runtime& runtime, const StoredCheckpoint& checkpoint, ModuleInFile module = ModuleInFile::kKeep);

  ModelShell& shell() { return *shell_; }
  Tensor operator()(const Parameter& p);  // f32 [spec.shape]
  Tensor local(const Parameter& p);       // f32 [local_shape] of a parameter of any layout that passed check()
  int64_t bytes_read() const { return reader_.bytes_read(); }

  // Throws one DataError that lists all parameters of a registry that the checkpoint lacks or has in another shape, and
  // those that it has besides.
  void check(ParameterRegistry& registry) const;

 private:
  Tensor read(const Parameter& p, const std::vector<Box>& boxes, const Shape& shape);

  Runtime& runtime_;
  const StoredCheckpoint& checkpoint_;
  TensorReader reader_;
  std::unique_ptr<ModelShell> shell_;
};

// A config.json of the model that a manifest's `run` tells of: `model` of an export, else the recipe's section. `where`
// is for messages. Throws DataError.
nlohmann::json model_of_run(const std::string& run, const std::string& where);

}  // namespace deepflow
