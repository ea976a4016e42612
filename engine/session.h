#pragma once

#include "core/parameter_registry.h"
#include "core/runtime.h"
#include "engine/machine.h"
#include "engine/memory_plan.h"
#include "models/options.h"
#include "parallel/communicator.h"
#include "parallel/resident_store.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace deepflow {

// What train.precision names.
struct Precision {
  DType compute = DType::kF32;
  ProductPrecision products = ProductPrecision::kCompute;
};
Precision precision_from_name(const std::string& name);  // f32, bf16, f16, int8; throws ConfigError

struct SessionOptions {
  std::string precision = "f32";
  int threads = 0;        // 0: every core that this process may use
  std::vector<int> cpus;  // one for each thread, to pin it; empty: none
  std::string cpu_isa = "auto";
  std::string weight_forms = "auto";  // engine/form_choice.h
  int64_t bucket_elements = ResidentStore::kBucketElements;
  std::optional<TrainingMemory> training;  // what model.recompute auto fits; none: nothing is trained
  UpdateUnit unit = UpdateUnit::kRow;      // of the optimizer
};

// A model in memory, ready for passes: what train, eval, generate and probe start from.
class Session {
 public:
  // `model` must be filled in. Values are not set: call initialise or load.
  // parallel: the layout of `mesh`, which outlives the session. sequence: rows of a sample. Throws ConfigError for a
  // model that cannot be split so. Collective.
  Session(const ModelOptions& model, const SessionOptions& options, Mesh& mesh, const ParallelOptions& parallel,
          int64_t sequence);
  // On one rank.
  Session(const ModelOptions& model, const SessionOptions& options);

  ~Session();

  Runtime& runtime() { return runtime_; }
  CausalModel& model() { return *model_; }
  ResidentStore& store() { return *store_; }
  ParameterRegistry& registry() { return registry_; }
  // With model.recompute auto, what was chosen; the policies of all layers.
  const std::optional<MemoryPlan>& memory_plan() const { return memory_plan_; }
  RankLayout layout();  // what memory follows from
  Machine machine() {
    return {runtime_, *stream_, *model_, *store_, mesh_, *links_, *domains_, rows_, precision_.products};
  }

 private:
  struct LoneMesh;
  Session(const ModelOptions& model, const SessionOptions& options, std::unique_ptr<LoneMesh> lone, Mesh* mesh,
          const ParallelOptions& parallel, int64_t sequence);
  void split_model(int64_t sequence);

  std::unique_ptr<LoneMesh> lone_;  // where no mesh was given
  Mesh& mesh_;
  TensorParallel tp_;
  ContextParallel cp_;
  ExpertParallel ep_;
  std::unique_ptr<PipelineLinks> links_;
  const ParallelOptions parallel_;
  RowPlacement rows_;
  Precision precision_;
  Runtime runtime_;
  std::unique_ptr<Stream> stream_;
  ParameterRegistry registry_;
  std::unique_ptr<CausalModel> model_;
  std::unique_ptr<GradientDomains> domains_;
  std::unique_ptr<ResidentStore> store_;
  ResidentStoreOptions store_options_;
  int64_t model_bytes_ = 0;
  std::optional<MemoryPlan> memory_plan_;
};

}  // namespace deepflow
