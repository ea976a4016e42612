#pragma once

#include "core/cpu_features.h"
#include "core/memory.h"
#include "core/stream.h"
#include "core/thread_pool.h"
#include "core/trace.h"

#include <memory>
#include <mutex>
#include <optional>
#include <typeindex>
#include <unordered_map>
#include <vector>

namespace deepflow {

struct RuntimeOptions {
  int threads = 0;                // 0: the cores this process may use
  std::vector<int> cpus;          // one for each thread, which is pinned to it; empty: not pinned
  std::optional<CpuIsa> cpu_isa;  // forces a variant; the machine must have it
};

// What a process has: threads, memory, devices, caches. Passed explicitly; there is no other global mutable state.
class Runtime {
 public:
  explicit Runtime(const RuntimeOptions& options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const ThreadPool& pool() const { return pool_; }
  Allocator& memory() { return *memory_; }
  Trace& trace() { return trace_; }
  const CpuFeatures& cpu() const { return cpu_; }
  CpuIsa isa() const { return isa_; }

  // One object of type T for the life of the runtime, made on first use: how an upper folder keeps its primitive and
  // GEMM-choice caches here without core knowing them.
  template <class T>
  T& slot() {
    const std::lock_guard lock(slots_mutex_);
    std::shared_ptr<void>& p = slots_[typeid(T)];
    if (!p) p = std::make_shared<T>();
    return *static_cast<T*>(p.get());
  }

 private:
  CpuFeatures cpu_;
  CpuIsa isa_;
  ThreadPool pool_;
  std::unique_ptr<Allocator> memory_;
  Trace trace_;
  bool pinned_;
  std::mutex slots_mutex_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> slots_;
};

}  // namespace deepflow
