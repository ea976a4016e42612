#pragma once

#include "core/state.h"
#include "data/loader.h"
#include "engine/expert_load.h"
#include "engine/machine.h"
#include "engine/qk_clip.h"
#include "engine/train_options.h"
#include "optim/loss_scale.h"
#include "optim/optimizer.h"
#include "parallel/exchange.h"
#include "parallel/schedule.h"
#include "parallel/shard_map.h"

#include <map>
#include <memory>
#include <optional>
#include <string>

namespace deepflow {

struct StepReport {
  int64_t step = 0;                // 1 after the first step
  double loss = 0;                 // nats a token, mean over the step's unmasked tokens of all ranks
  std::optional<double> mtp_loss;  // of a model with multi-token prediction: as ChunkPass::mtp_loss, not in `loss`
  double gradient_norm = 0;        // before clipping
  double lr = 0;
  std::vector<ExpertLoad> experts;            // of every layer that has some
  std::vector<LayerScores> scores;            // of every layer, before clipping; with optim.qk_clip
  std::optional<ScoreFigures> score_figures;  // likewise
  bool applied = true;                        // false: left out by the loss scale
  std::map<std::string, int64_t> bytes_sent;  // by all ranks along each set of axes; where they are counted
  int64_t tokens = 0;                         // of all ranks, masked ones included
  double seconds = 0;                         // of this rank, from the batch in hand to the updated masters
};

// One optimizer step after another: forward and backward over the micro-batches with the exchange behind them,
// clipping, update. Deterministic: the same layout gives the same bits. Collective over the whole job.
class Trainer final : public StateOwner {
 public:
  // `parallel` as the session was made with.
  Trainer(Machine machine, const TrainOptions& train, const OptimOptions& optim, const ParallelOptions& parallel,
          Loader& loader);

  // Throws NumericError when the loss or the gradient is not finite; masters are then those of the step before.
  StepReport step();

  int64_t steps_done() const { return step_; }
  int64_t micro_batch() const { return micro_batch_; }
  const Schedule& schedule() const { return schedule_; }  // lowered
  Machine& machine() { return machine_; }

  // Parameters, optimizer state, step and data position: everything that a continued run needs.
  void visit_state(const StateVisitor& visit) override;
  void state_written() override;

 private:
  struct Losses {
    double main = 0, mtp = 0;
  };
  Losses run_passes(const Batch& batch, int64_t global_labels);
  void update(const StepReport& report, double scale);
  [[noreturn]] void report_not_finite(double local_loss);

  Machine machine_;
  TrainOptions train_;
  OptimOptions optim_;
  Loader& loader_;
  std::vector<ShardPiece> counted_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<LossScale> loss_scale_;  // of f16
  StatisticsSink statistics_;            // of this rank's passes of a step
  int64_t micro_batch_;
  Schedule schedule_;
  int64_t step_ = 0;
};

}  // namespace deepflow
