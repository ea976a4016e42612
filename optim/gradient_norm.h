#pragma once

#include "parallel/communicator.h"
#include "parallel/resident_store.h"
#include "parallel/shard_map.h"

#include <optional>
#include <string>

namespace deepflow {

// Euclidean norm of the whole summed gradient, every logical element counted once, summed in f64 in a fixed order.
// Collective over the ranks that share the gradient. `shards` says which pieces this rank counts.
double gradient_norm(Runtime& runtime, ResidentStore& store, const ShardMap& shards, Communicator& domain);

// The first parameter, in the order of the model, whose summed gradient is not finite on some rank. Collective.
std::optional<std::string> first_parameter_not_finite(Runtime& runtime, ResidentStore& store, const ShardMap& shards,
                                                      Communicator& domain);

}  // namespace deepflow
