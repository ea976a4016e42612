#pragma once

#include "parallel/collective_plan.h"

#include <mpi.h>

#include <vector>

namespace deepflow {

// Nonblocking messages under way together. Only for the thread that owns MPI.
class MpiRequests {
 public:
  // Begins all messages; those longer than `message_bytes` in parts. Throws CommError.
  void post(const std::vector<Message>& messages, MPI_Comm comm, int tag, int64_t message_bytes);
  bool test();  // true when something finished; throws CommError when it finished badly
  bool done() const { return unfinished_ == 0; }
  std::vector<int> missing() const;  // peers that something is still expected of, sorted

 private:
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;
  std::vector<int> finished_;
  std::vector<MPI_Status> statuses_;
  int unfinished_ = 0;
};

// Throws CommError with MPI's own words unless `code` is MPI_SUCCESS.
void check_mpi(int code, const char* call);

}  // namespace deepflow
