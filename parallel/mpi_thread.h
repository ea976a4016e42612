#pragma once

#include "parallel/mpi_queue.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace deepflow {

// The one thread that owns MPI: it initialises it, makes every call and finalises it. It progresses all queues at once
// with nonblocking calls. While somebody waits for a result it polls, giving way to other threads; otherwise it polls
// a few thousand times a second, so that it costs a computing thread on the same core next to nothing.
class MpiThread {
 public:
  explicit MpiThread(const CommOptions& options);
  ~MpiThread();  // waits for all other ranks; afterwards MPI is finalised
  MpiThread(const MpiThread&) = delete;
  MpiThread& operator=(const MpiThread&) = delete;

  // A queue whose operations begin once MPI has started.
  std::shared_ptr<MpiQueue> add_queue(std::string name, MpiQueue::Members members);
  // f() on the MPI thread between two polls, once MPI has started. It must not throw nor wait for other ranks.
  void post(std::function<void()> f);
  void call(const std::function<void()>& f);  // the same, and waits until it ran; f may throw

  // Ends every rank of the job with this exit code.
  [[noreturn]] void abort(int exit_code);
  void set_trace(Trace* trace) { signal_->set_trace(trace); }
  bool broken() const;  // some queue failed: MPI cannot be left in good order
  std::string flight_report() const;

 private:
  void run();
  void take_news();
  bool advance_all(bool& active);
  void idle(bool active, double now, double last_move);
  std::vector<std::shared_ptr<MpiQueue>> queues() const;

  const CommOptions options_;
  const std::shared_ptr<MpiSignal> signal_ = std::make_shared<MpiSignal>();
  const std::shared_ptr<StagingPool> staging_ = std::make_shared<StagingPool>();
  std::atomic<int> abort_code_{-1};
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;  // of the next two
  std::vector<std::shared_ptr<MpiQueue>> queues_;
  std::vector<std::function<void()>> posted_;
  std::vector<std::shared_ptr<MpiQueue>> polled_;  // the MPI thread's own copy
  std::thread thread_;
};

}  // namespace deepflow
