#pragma once

#include "core/trace.h"
#include "parallel/communicator.h"
#include "parallel/parallel_options.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace deepflow {

class MpiThread;

// What the program that started this process says in the environment.
struct LaunchPlace {
  std::string launcher;  // "mpirun", "srun", "PMI", "PMIx"; empty: started on its own
  std::optional<int> rank, size, local_rank, ranks_on_host;
};
using Environment = std::function<const char*(const char* name)>;
LaunchPlace find_launch_place(const Environment& environment);

// All processes of the job. Started on its own, or as the only rank, a process has a self communicator and MPI is never
// touched; otherwise MPI starts in the background on a thread of its own (parallel/mpi_thread.h).
class World {
 public:
  World(const LaunchPlace& place, const CommOptions& options);
  // Waits for all other ranks, unless an exception is under way or communication failed: then it ends the whole job.
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const { return all_->rank(); }
  int size() const { return all_->size(); }
  int local_rank() const { return local_rank_; }  // among the ranks of this host
  int ranks_on_host() const { return ranks_on_host_; }
  Communicator& all() { return *all_; }    // every rank; communicators made from it must not outlive the World
  MpiThread* mpi() { return mpi_.get(); }  // null without MPI

  void record_spans(Trace* trace);  // must outlive the World; null: no longer
  std::string flight_report() const;
  // Prints "deepflow: rank R: message" (no rank when there is only one) on stderr and ends every rank of the job with
  // this code. When several ranks fail at once the lowest speaks.
  [[noreturn]] void fail(const std::string& message, int exit_code);

 private:
  void find_own_place(const LaunchPlace& place);
  void check_place(const LaunchPlace& place);

  const CommOptions options_;
  const int exceptions_;
  int local_rank_ = 0, ranks_on_host_ = 1;
  std::unique_ptr<MpiThread> mpi_;
  std::unique_ptr<Communicator> all_;
};

std::unique_ptr<World> start_world(const CommOptions& options = {});

// body(world) on this rank; returns its exit code. An exception ends the whole job: Error with code 2, anything else,
// which is a bug of ours, with code 3. No other rank is left running.
int run_world(const CommOptions& options, const std::function<int(World&)>& body);

}  // namespace deepflow
