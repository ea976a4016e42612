#pragma once

#include "checkpoint/blockstore/save_task.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/checkpoint_options.h"
#include "core/state.h"
#include "core/thread_pool.h"
#include "parallel/communicator.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace deepflow {

struct Resumed {
  int64_t step = 0;
  std::string path;
  std::string run;                     // JSON of the manifest
  std::vector<std::string> passed_by;  // newer checkpoints that are damaged, a line each
  int64_t bytes = 0;                   // read by all ranks
  double seconds = 0;
};

// The checkpoints of one run. All calls are collective over the communicator it was made with, whose duplicate it uses.
//
// A save copies what this rank is to write into memory (the copy is kept for the next one) and returns; a thread of its
// own compresses and writes it and agrees with the other ranks. One save is under way at a time: the next waits for it.
// With async: false it returns when all is done, and values of 1 MiB or more are not copied: they outlive the visit.
// A save that fails does not stop training and leaves older checkpoints as they were.
class Checkpointer {
 public:
  // options.dir is set. `pool` makes the copies and reads.
  Checkpointer(Communicator& all, CheckpointOptions options, const ThreadPool& pool);
  ~Checkpointer();  // waits for a save under way
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // As options.resume says. With `auto` damaged checkpoints are passed by and set aside. Throws ConfigError for a
  // checkpoint of another model or optimizer, and where options.dir has newer ones than the step that the run begins
  // at; DataError where all are damaged.
  std::optional<Resumed> resume(StateOwner& owner);
  // The manifest's `run` of the checkpoint that resume would take first; "" where there is none.
  std::string peek() const;

  // run: a JSON object for the manifest (of rank 0). Every call with entries of the same names and boxes.
  void save(StateOwner& owner, int64_t step, const std::string& run);
  // Of saves that have ended since the last call; wait: also of the one under way. Not collective without wait.
  std::vector<SaveReport> reports(bool wait);

 private:
  struct Copy;
  void make_plan(StateOwner& owner);
  void copy_state(StateOwner& owner);
  std::vector<std::string> agreed_candidates() const;
  std::vector<std::string> candidates() const;
  void set_damaged_aside(const std::vector<std::string>& paths);
  void refuse_newer_than(int64_t step) const;
  std::string try_to_load(StateOwner& owner, const std::string& path, Resumed& resumed);
  void remember(const StoredCheckpoint& checkpoint);
  void join();

  CheckpointOptions options_;
  const ThreadPool& pool_;
  std::unique_ptr<Communicator> comm_;
  std::optional<SavePlan> plan_;
  EarlierSlices earlier_;
  Snapshot snapshot_;
  std::unique_ptr<Copy> copy_;
  std::vector<Tensor> in_place_;  // of a save that is waited for: what is written from where it lies
  std::thread thread_;
  SaveReport under_way_;
  std::vector<SaveReport> ended_;
  std::unique_ptr<std::atomic<bool>> done_;
};

}  // namespace deepflow
