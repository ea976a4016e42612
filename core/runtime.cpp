#include "core/runtime.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {
namespace {

CpuIsa choose_isa(const CpuFeatures& cpu, std::optional<CpuIsa> forced) {
  const CpuIsa best = best_isa(cpu);
  if (!forced) return best;
  if (*forced > best)
    throw ConfigError("cpu_isa: this CPU ({}) has no {}; its best is {}", cpu.model, name_of(*forced), name_of(best));
  return *forced;
}

int choose_threads(const RuntimeOptions& options) {
  if (options.threads > 0) return options.threads;
  return std::max(1, available_cores() / std::max(1, options.ranks_on_host));
}

}  // namespace

Runtime::Runtime(const RuntimeOptions& options)
    : cpu_(detect_cpu()),
      isa_(choose_isa(cpu_, options.cpu_isa)),
      pool_(choose_threads(options)),
      memory_(std::make_unique<CachingHostAllocator>()) {}

// Slots may hold tensors: they go before the memory does.
Runtime::~Runtime() { slots_.clear(); }

}  // namespace deepflow
