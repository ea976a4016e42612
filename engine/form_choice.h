#pragma once

#include "engine/host_report.h"
#include "parallel/resident_store.h"

#include <string>

namespace deepflow {

// Bytes of memory that a rank with so many threads may count on: its share, by threads, of what the host has available
// or its control group grants. 0: unknown.
int64_t memory_share(const HostReport& host, int threads);

// Bytes that training of these parameters holds throughout: masters, gradients, two moments, and the derived forms.
int64_t training_bytes(const ParameterRegistry& registry, DType compute, FormsKept kept);

// The recipe's train.weight_forms: "all", "forward", or "auto": all where two thirds of `share` hold them, so that a
// third is left for activations.
FormsKept choose_forms(const std::string& option, const ParameterRegistry& registry, DType compute, int64_t share);

}  // namespace deepflow
