#pragma once

#include "engine/evaluator.h"
#include "engine/expert_report.h"
#include "engine/loss_curve.h"
#include "engine/metrics_file.h"
#include "engine/progress.h"
#include "engine/run_checkpoints.h"
#include "engine/run_options.h"
#include "engine/tensorboard.h"
#include "engine/trainer.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// What a run tells on rank 0: progress on stdout, metrics.jsonl, TensorBoard events and the loss curve in run.dir. On
// other ranks it is silent and writes nothing.
class RunReport {
 public:
  // gemm_rate: FLOP/s of all ranks; flops_per_token as training_flops_per_token gives them; go_on_behind: the step
  // that the run was resumed at, whose metrics it continues.
  RunReport(const RunOptions& options, bool speaks, double gemm_rate, double flops_per_token, int64_t go_on_behind = 0);
  // The rate measured once more, in a pause of so many seconds that do not count as training time. The best one is the
  // yardstick of MFU: others may have kept the cores busy at the start.
  void gemm_rate(double rate, double pause);

  void say(const std::string& line);
  void step(const StepReport& report);
  void evaluation(int64_t step, const Evaluation& evaluation);
  void checkpoint(const SaveReport& report);
  void finish();  // the curve as run.dir/loss.svg, and the load of experts as experts.svg

 private:
  void take_up(const std::vector<nlohmann::json>& earlier);
  double tokens_per_second() const;

  const std::string dir_;
  const int64_t steps_;
  const bool speaks_;
  double gemm_rate_;
  const double flops_per_token_;
  Progress progress_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
  ExpertReport experts_;
  Curve training_{"training", {}}, heldout_{"held out", {}, true};
  struct Moment {
    std::chrono::steady_clock::time_point time;
    int64_t tokens;
  };
  std::vector<Moment> recent_;  // ends of the last steps, for the rate
  int64_t tokens_ = 0;
};

}  // namespace deepflow
