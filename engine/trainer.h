#pragma once

#include "core/context.h"
#include "core/state.h"
#include "data/loader.h"
#include "engine/train_options.h"
#include "models/model.h"
#include "optim/optimizer.h"
#include "parallel/communicator.h"
#include "parallel/exchange.h"
#include "parallel/resident_store.h"
#include "parallel/shard_map.h"

#include <memory>
#include <string>

namespace deepflow {

// What a pass over a model needs; owned by the run.
struct Machine {
  Runtime& runtime;
  Stream& stream;
  CausalModel& model;
  ResidentStore& store;
  Communicator& batch_axes;  // the ranks that see different data
  ProductPrecision products = ProductPrecision::kCompute;
};

struct StepReport {
  int64_t step = 0;          // 1 after the first step
  double loss = 0;           // nats a token, mean over the step's unmasked tokens of all ranks
  double gradient_norm = 0;  // before clipping
  double lr = 0;
  int64_t tokens = 0;  // of all ranks, masked ones included
  double seconds = 0;  // of this rank, from the batch in hand to the updated masters
};

// One optimizer step after another: forward and backward over the micro-batches with the exchange behind them,
// clipping, update. Deterministic: the same layout gives the same bits. Collective over the batch axes.
class Trainer final : public StateOwner {
 public:
  // zero: 0 or 1 (optimizer state and update sharded over the batch axes).
  Trainer(Machine machine, const TrainOptions& train, const OptimOptions& optim, int zero, Loader& loader);

  // Throws NumericError when the loss or the gradient is not finite; masters are then those of the step before.
  StepReport step();

  int64_t steps_done() const { return step_; }
  int64_t micro_batch() const { return micro_batch_; }
  Machine& machine() { return machine_; }

  // Parameters, optimizer state, step and data position: everything that a continued run needs.
  void visit_state(const StateVisitor& visit) override;
  void state_written() override;

 private:
  double run_passes(const Batch& batch, int64_t global_labels);
  double run_pass(const Batch& batch, int64_t first, int64_t global_labels);
  [[noreturn]] void report_not_finite(double local_loss);

  Machine machine_;
  TrainOptions train_;
  OptimOptions optim_;
  Loader& loader_;
  ShardMap shards_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<Optimizer> optimizer_;
  int64_t micro_batch_;
  int64_t step_ = 0;
};

// Tensors over samples [first, first + count) of a batch, without a copy; `batch` outlives them.
struct BatchTensors {
  Tensor tokens, labels;
  RowInfo rows;
};
BatchTensors batch_tensors(Runtime& runtime, const Batch& batch, int64_t first, int64_t count);

}  // namespace deepflow
