#pragma once

#include "checkpoint/foreign_tensor.h"
#include "core/dtype.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <string>

namespace deepflow {

struct Hdf5ModelOptions {
  DType dtype = DType::kF32;  // or kBF16, kF16; of buffers f32 always
  bool writes = true;  // one rank's task; the others call as well when `value` gathers over ranks, for its calls alone
  std::function<DType(const Parameter&)> dtype_of;  // instead of `dtype`, each parameter's own: f32, bf16 or f16
};

// Writes the parameters of a model as one HDF5 file (docs/formats/hdf5_model.md). It appears whole or not at all.
// `config`: the model's config.json. `value` is called once per parameter in the order of the registry and gives the
// whole logical value, f32 [spec.shape]; where !writes what it gives does not matter. Throws StorageError.
void write_hdf5_model(Runtime& runtime, const std::string& path, const nlohmann::json& config,
                      const ParameterRegistry& registry, const ForeignTensor::WholeValue& value,
                      const Hdf5ModelOptions& options);

}  // namespace deepflow
