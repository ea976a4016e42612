#pragma once

#include "core/trace.h"
#include "parallel/communicator.h"

#include <string>

namespace deepflow {

// Records the spans of chosen steps on every rank and writes them as one Chrome / Perfetto trace.
class RunTrace {
 public:
  // first_step 0: never records.
  RunTrace(Trace& trace, Communicator& comm, int64_t first_step, int64_t num_steps, std::string path);
  void before_step(int64_t step);  // both collective
  void after_step(int64_t step);   // writes the file behind the last traced step, on rank 0

 private:
  void write();

  Trace& trace_;
  Communicator& comm_;
  int64_t first_, last_;
  std::string path_;
  double start_us_ = 0;
};

}  // namespace deepflow
