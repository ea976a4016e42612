#include "engine/form_choice.h"

#include <algorithm>

namespace deepflow {

int64_t memory_share(const HostReport& host, int threads) {
  int64_t bytes = host.available_bytes;
  if (host.memory_limit != HostReport::kUnlimited) bytes = std::min(bytes, host.memory_limit);
  const int cpus = std::max(1, host.cpus);
  return bytes / cpus * std::min(threads, cpus);
}

int64_t training_bytes(const ParameterRegistry& registry, DType compute, FormsKept kept) {
  constexpr int64_t kMasterGradientMoments = 4 * 4;
  const auto form = static_cast<int64_t>(size_of(compute == DType::kF16 ? DType::kF32 : compute));  // matmul.h
  int64_t bytes = 0;
  for (const Pack& pack : registry.packs())
    if (pack.local) bytes += pack.num_elements() * (kMasterGradientMoments + form * (kept == FormsKept::kAll ? 2 : 1));
  return bytes;
}

FormsKept choose_forms(const std::string& option, const ParameterRegistry& registry, DType compute, int64_t share) {
  if (option == "all") return FormsKept::kAll;
  if (option == "forward") return FormsKept::kForward;
  const bool fits = share == 0 || training_bytes(registry, compute, FormsKept::kAll) <= share / 3 * 2;
  return fits ? FormsKept::kAll : FormsKept::kForward;
}

}  // namespace deepflow
