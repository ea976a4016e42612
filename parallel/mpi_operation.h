#pragma once

#include "core/work.h"
#include "parallel/collective_plan.h"
#include "parallel/flight_recorder.h"
#include "parallel/mpi_signal.h"

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace deepflow {

// One collective or batch on its way through a queue; host threads hold it as the Work.
class MpiOperation final : public Work {
 public:
  struct Call {
    Plan plan;
    std::vector<Tensor> tensors;
    std::function<void()> on_done;  // on the MPI thread, before anybody learns that it is done
  };
  MpiOperation(FlightRecorder::Entry entry, Call call, std::shared_ptr<FlightRecorder> recorder,
               std::shared_ptr<MpiSignal> signal);

  void wait(Stream& stream) override;
  void wait_host() override;

  // The rest is for the MPI thread.
  const FlightRecorder::Entry& entry() const { return entry_; }
  std::string describe() const;  // "`layers.7` all_reduce #1204"
  int64_t num_pieces() const { return std::max<int64_t>(1, call_.plan.num_pieces); }
  Piece piece(int64_t index, StagingPool& staging) const;
  void begin();
  void finish();
  void fail(const std::string& error);
  double waited_since() const { return waited_since_.load(std::memory_order_relaxed); }  // 0: nobody waits

 private:
  void settle(FlightRecorder::State state, std::string error);

  const FlightRecorder::Entry entry_;
  Call call_;
  const std::shared_ptr<FlightRecorder> recorder_;
  const std::shared_ptr<MpiSignal> signal_;
  double begun_us_ = 0;
  std::atomic<double> waited_since_{0};
  std::mutex mutex_;
  std::condition_variable settled_;
  bool done_ = false;
  std::string error_;
};

}  // namespace deepflow
