#pragma once

#include "core/trace.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace deepflow {

// What host threads and the MPI thread tell each other: that there is new work, and that somebody waits for a result.
class MpiSignal {
 public:
  void wake() {
    {
      const std::lock_guard lock(mutex_);
      woken_.store(true, std::memory_order_release);
    }
    changed_.notify_one();
  }
  // MPI thread: whether wake() was called since the last take().
  bool take() { return woken_.load(std::memory_order_acquire) && woken_.exchange(false, std::memory_order_acq_rel); }
  // MPI thread: until wake() or for that long.
  void sleep(std::chrono::microseconds time) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [this] { return woken_.load(std::memory_order_relaxed); });
  }

  void begin_wait() {
    ++waiting_;
    wake();
  }
  void end_wait() { --waiting_; }
  int waiting() const { return waiting_.load(std::memory_order_relaxed); }

  void set_trace(Trace* trace) { trace_.store(trace, std::memory_order_release); }
  Trace* trace() const {  // null unless spans are wanted now
    Trace* trace = trace_.load(std::memory_order_acquire);
    return trace && trace->enabled() ? trace : nullptr;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> woken_{false};
  std::atomic<int> waiting_{0};
  std::atomic<Trace*> trace_{nullptr};
};

}  // namespace deepflow
