#pragma once

#include "checkpoint/foreign_tensor.h"
#include "core/dtype.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <optional>
#include <string>

namespace deepflow {

struct HfFolderOptions {
  DType dtype = DType::kF32;               // or kBF16, kF16; of buffers f32 always, as transformers keeps them
  int64_t shard_bytes = int64_t{5} << 30;  // more than this is cut into several files
  std::optional<int64_t> end_of_text;      // token that ends a generated text, for generation_config.json
  bool writes = true;  // one rank's task; the others call as well when `value` gathers over ranks, for its calls alone
  std::function<DType(const Parameter&)> dtype_of;  // instead of `dtype`, each parameter's own: f32, bf16 or f16
};

// Writes a folder that transformers loads: config.json (the model's, completed), safetensors of one file or several
// with an index, and generation_config.json. An older model in the same folder is replaced; config.json
// goes first and comes back last, so that a half-written folder is never taken for a model. `value` is called once per
// parameter in the order of `names` and gives the whole logical value, f32 [spec.shape]; where !writes what it gives
// does not matter. Throws StorageError.
void write_hf_folder(Runtime& runtime, const std::string& dir, nlohmann::json config, const ForeignNames& names,
                     ParameterRegistry& registry, const ForeignTensor::WholeValue& value,
                     const HfFolderOptions& options);

}  // namespace deepflow
