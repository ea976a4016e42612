#pragma once

#include "core/trace.h"
#include "engine/expert_load.h"
#include "parallel/communicator.h"

#include <string>
#include <vector>

namespace deepflow {

// Records the spans of chosen steps on every rank and writes them as one Chrome / Perfetto trace. Of a model with
// experts it has counters as well, three of each layer at the end of each step: "imbalance/LAYER" (the largest load
// over the mean one), "entropy/LAYER" and "dropped/LAYER", in the process of rank 0.
class RunTrace {
 public:
  // first_step 0: never records.
  RunTrace(Trace& trace, Communicator& comm, int64_t first_step, int64_t num_steps, std::string path);
  void before_step(int64_t step);  // both collective
  // Writes the file behind the last traced step, on rank 0.
  void after_step(int64_t step, const std::vector<ExpertLoad>& experts = {});

 private:
  struct Counter {
    std::string name;
    double at_us, value;  // since the start
  };
  void write();
  std::string with_counters(std::string trace, double first_us) const;

  Trace& trace_;
  Communicator& comm_;
  int64_t first_, last_;
  std::string path_;
  double start_us_ = 0;
  std::vector<Counter> counters_;
};

}  // namespace deepflow
