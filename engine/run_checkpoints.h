#pragma once

#include "checkpoint/checkpointer.h"
#include "engine/run_options.h"
#include "engine/trainer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace deepflow {

// The checkpoints of a training run: when there is one, what is told of it, and where the run begins. Collective over
// the job; without checkpoint.every and without a checkpoint to resume from it does nothing.
class RunCheckpoints {
 public:
  RunCheckpoints(const RunOptions& options, Communicator& all, const ThreadPool& pool);

  // Lines for the start of the report. Throws as Checkpointer::resume, and ConfigError where the checkpoint was trained
  // with another tokenizer.
  std::vector<std::string> resume(Trainer& trainer, const std::string& tokenizer_digest);
  int64_t first_step() const { return resumed_ ? resumed_->step : 0; }

  // Behind a step. run: run_as_json. Returns the reports of saves that have ended.
  std::vector<SaveReport> after_step(Trainer& trainer, int64_t step, const std::string& run);
  std::vector<SaveReport> finish();  // waits for the save under way

 private:
  bool is_due(int64_t step) const;

  const CheckpointOptions options_;
  const int64_t steps_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::optional<Resumed> resumed_;
};

// checkpoint.dir, filled in where the recipe leaves it open.
CheckpointOptions checkpoint_options(const RunOptions& options);

// What a manifest tells of its run: the resolved recipe, tokenizer, program, ranks.
std::string run_as_json(const std::string& recipe_yaml, const ParallelOptions& layout, int ranks,
                        const std::string& tokenizer_digest);
// The layers of each chunk with which a checkpoint of the same layout was written: measured costs may split them
// otherwise, and a resumed run would not have the same bits. Empty where there is no such checkpoint.
std::vector<int> layers_of_resumed_run(const RunOptions& options, Communicator& all);
// "checkpoint of step 400: 1.21 GB in 0.97 GB (0.31 GB referred to), snapshot 0.12 s, written in 1.4 s", or what went
// wrong.
std::string describe(const SaveReport& report);

}  // namespace deepflow
