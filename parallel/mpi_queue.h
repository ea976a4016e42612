#pragma once

#include "parallel/collective_check.h"
#include "parallel/mpi_operation.h"
#include "parallel/mpi_requests.h"
#include "parallel/parallel_options.h"

#include <mpi.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace deepflow {

// The FIFO of one communicator. Operations begin in the order in which they were enqueued; their pieces follow each
// other through a window of pieces in flight, so that a collective begins while the one before it is drained.
class MpiQueue {
 public:
  struct Members {
    MPI_Comm comm;
    int rank;
    std::vector<int> world_ranks;  // of members 0, 1, ...
  };
  struct Call {
    CommKind kind;
    std::string_view name;
    int64_t bytes;
    MpiOperation::Call work;
    std::vector<HeaderMessage> headers;  // looked at when collectives are checked
  };

  MpiQueue(std::string name, Members members, const CommOptions& options, std::shared_ptr<MpiSignal> signal,
           std::shared_ptr<StagingPool> staging);

  // Any thread.
  std::shared_ptr<MpiOperation> enqueue(Call call);
  const std::string& name() const { return name_; }
  int rank() const { return members_.rank; }
  int size() const { return static_cast<int>(members_.world_ranks.size()); }
  const CommOptions& options() const { return options_; }
  const FlightRecorder& recorder() const { return *recorder_; }
  CommBytes bytes() const { return {sent_.load(), received_.load()}; }
  bool broken() const;
  void fail_later(const std::string& error);  // the MPI thread fails everything when it comes by

  // Only the MPI thread.
  const Members& members() const { return members_; }
  bool active() const { return !operations_.empty(); }  // collect() before
  void collect();
  bool advance();  // true when anything moved
  void check_timeout(double now);
  void fail(const std::string& error);

 private:
  struct InFlight {
    MpiOperation* operation;
    int64_t index;
    Piece piece;
    MpiRequests requests;
    int64_t bytes = 0;
    bool second = false, done = false;
  };

  void begin_pieces();
  bool may_begin() const;
  void begin_piece();
  bool step(InFlight& f);
  void retire();
  void post(InFlight& f, const std::vector<Message>& messages);
  std::string stall(const MpiOperation& waited, double seconds) const;

  const std::string name_;
  const Members members_;
  const CommOptions options_;
  const std::shared_ptr<MpiSignal> signal_;
  const std::shared_ptr<StagingPool> staging_;
  const std::shared_ptr<FlightRecorder> recorder_;
  std::atomic<int64_t> sent_{0}, received_{0};

  mutable std::mutex mutex_;  // of the next three
  std::vector<std::shared_ptr<MpiOperation>> incoming_;
  std::string broken_;  // why nothing works any more
  bool fail_asked_ = false;

  std::deque<std::shared_ptr<MpiOperation>> operations_;  // not done, in order
  size_t next_operation_ = 0;                             // whose pieces are being begun
  int64_t next_piece_ = 0, bytes_in_flight_ = 0;
  std::deque<InFlight> flight_;
  const MpiOperation* current_ = nullptr;  // that an exception comes from
  double last_move_ = 0;
  // Of a failed queue: MPI may still write into their buffers.
  std::deque<InFlight> abandoned_;
  std::deque<std::shared_ptr<MpiOperation>> abandoned_operations_;
};

}  // namespace deepflow
