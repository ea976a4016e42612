#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace deepflow {

// The threads that compute: the OpenMP team that oneDNN uses as well, so that there is one pool and not two.
// Work is split the same way for the same count of threads, so a result never depends on timing.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  int size() const { return num_threads_; }
  // Parallel loops of libraries that the calling thread starts from now on use size() threads as well.
  void adopt_caller() const;
  // Thread t, the caller being thread 0, runs on CPU cpus[t] alone from now on. What the kernel refuses stays as it
  // was.
  void pin(const std::vector<int>& cpus) const;

  // f(thread, num_threads) on every thread of the pool; returns when all are done. Must not throw, must not nest.
  template <class F>
  void run(F&& f) const {
    run_erased([](void* c, int t, int n) { (*static_cast<std::remove_reference_t<F>*>(c))(t, n); }, &f, num_threads_);
  }

  // f(begin, end) over contiguous parts of [0, n), one a thread, cut at multiples of `grain`.
  template <class F>
  void parallel_for(int64_t n, int64_t grain, F&& f) const {
    if (n <= 0) return;
    const int64_t pieces = (n + grain - 1) / grain;
    const int threads = static_cast<int>(std::min<int64_t>(num_threads_, pieces));
    auto part = [&](int t, int) {
      const int64_t begin = pieces * t / threads * grain, end = std::min(pieces * (t + 1) / threads * grain, n);
      if (begin < end) f(begin, end);
    };
    run_erased([](void* c, int t, int k) { (*static_cast<decltype(part)*>(c))(t, k); }, &part, threads);
  }

  // f(i) for i in [0, n), taken one by one by whichever thread is free. For parts of unequal cost that do not add
  // into shared sums.
  template <class F>
  void parallel_for_dynamic(int64_t n, F&& f) const {
    std::atomic<int64_t> next{0};
    run([&](int, int) {
      for (int64_t i = next++; i < n; i = next++) f(i);
    });
  }

 private:
  using Body = void (*)(void* closure, int thread, int num_threads);
  static void run_erased(Body body, void* closure, int num_threads);

  int num_threads_;
};

// For a thread that does not compute but was started by one that is pinned: it may run wherever the process was
// allowed to at its start.
void use_any_cpu();

// The CPUs that the process was allowed at its start.
std::vector<int> allowed_cpus();

// How many cores this process may use: those CPUs, cut to the cgroup's quota.
int available_cores();

}  // namespace deepflow
