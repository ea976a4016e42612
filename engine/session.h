#pragma once

#include "core/parameter_registry.h"
#include "core/runtime.h"
#include "engine/trainer.h"
#include "models/options.h"
#include "parallel/communicator.h"
#include "parallel/resident_store.h"

#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// What train.precision names.
struct Precision {
  DType compute = DType::kF32;
  ProductPrecision products = ProductPrecision::kCompute;
};
Precision precision_from_name(const std::string& name);  // f32, bf16, int8; throws ConfigError

struct SessionOptions {
  std::string precision = "f32";
  int threads = 0;        // 0: every core that this process may use
  std::vector<int> cpus;  // one for each thread, to pin it; empty: none
  std::string cpu_isa = "auto";
  std::string weight_forms = "auto";  // engine/form_choice.h
  int64_t bucket_elements = ResidentStore::kBucketElements;
};

// A model in memory, ready for passes: what train, eval, generate and probe start from.
class Session {
 public:
  // `model` must be filled in. Values are not set: call initialise or load.
  Session(const ModelOptions& model, const SessionOptions& options, Communicator& batch_axes, const MeshCoord& coord);

  Runtime& runtime() { return runtime_; }
  CausalModel& model() { return *model_; }
  ResidentStore& store() { return *store_; }
  ParameterRegistry& registry() { return registry_; }
  Machine machine() { return {runtime_, *stream_, *model_, *store_, batch_axes_, precision_.products}; }

 private:
  Precision precision_;
  Runtime runtime_;
  std::unique_ptr<Stream> stream_;
  ParameterRegistry registry_;
  std::unique_ptr<CausalModel> model_;
  std::unique_ptr<ResidentStore> store_;
  Communicator& batch_axes_;
};

}  // namespace deepflow
