#include "core/runtime.h"

#include "core/error.h"

namespace deepflow {
namespace {

CpuIsa choose_isa(const CpuFeatures& cpu, std::optional<CpuIsa> forced) {
  const CpuIsa best = best_isa(cpu);
  if (!forced) return best;
  if (*forced > best)
    throw ConfigError("cpu_isa: this CPU ({}) has no {}; its best is {}", cpu.model, name_of(*forced), name_of(best));
  return *forced;
}

int choose_threads(const RuntimeOptions& options) { return options.threads > 0 ? options.threads : available_cores(); }

}  // namespace

Runtime::Runtime(const RuntimeOptions& options)
    : cpu_(detect_cpu()),
      isa_(choose_isa(cpu_, options.cpu_isa)),
      pool_(choose_threads(options)),
      memory_(std::make_unique<CachingHostAllocator>()),
      pinned_(!options.cpus.empty()) {
  if (pinned_) pool_.pin(options.cpus);
}

// Slots may hold tensors: they go before the memory does.
Runtime::~Runtime() {
  slots_.clear();
  if (pinned_) use_any_cpu();
}

}  // namespace deepflow
