#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace deepflow {

enum class SpanKind : uint8_t { kCompute, kCommunication, kWaiting, kInput };

// Timed spans of this process, written as a Chrome / Perfetto trace (Trace Event Format, complete events "X"; pid is
// the rank, tid the track). Costs one branch a span while it is off. Thread-safe.
class Trace {
 public:
  struct Span {
    std::string name;
    SpanKind kind;
    double begin_us, end_us;  // since the epoch of the steady clock
  };

  void set_enabled(bool on) { enabled_.store(on, std::memory_order_relaxed); }
  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
  static double now_us() {
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  void add(std::string name, SpanKind kind, double begin_us, double end_us);
  std::vector<Span> take();  // and forgets them

 private:
  std::atomic<bool> enabled_{false};
  std::mutex mutex_;
  std::vector<Span> spans_;
};

// Times its own lifetime. `name` must outlive it.
class ScopedSpan {
 public:
  ScopedSpan(Trace& trace, const char* name, SpanKind kind)
      : trace_(trace.enabled() ? &trace : nullptr), name_(name), kind_(kind), begin_(trace_ ? Trace::now_us() : 0) {}
  ~ScopedSpan() {
    if (trace_) trace_->add(name_, kind_, begin_, Trace::now_us());
  }
  ScopedSpan(const ScopedSpan&) = delete;
  ScopedSpan& operator=(const ScopedSpan&) = delete;

 private:
  Trace* trace_;
  const char* name_;
  SpanKind kind_;
  double begin_;
};

// {"traceEvents": [...]} for the spans of every rank; rank r is process r, kinds are named tracks.
std::string to_chrome_trace(const std::vector<std::vector<Trace::Span>>& spans_of_rank);

}  // namespace deepflow
