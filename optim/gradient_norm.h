#pragma once

#include "parallel/communicator.h"
#include "parallel/gradient_domains.h"
#include "parallel/resident_store.h"
#include "parallel/shard_map.h"

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// Pieces of the summed gradient that this rank has and counts: over all ranks of the mesh every logical element once,
// however it is split, sharded and replicated. Constant during a run.
std::vector<ShardPiece> counted_pieces(ResidentStore& store, const GradientDomains& domains);

// Euclidean norm of the whole summed gradient, summed in f64 in a fixed order: the same bits on all ranks of `world`,
// over which it is collective. After ResidentStore::finish_gradients.
double gradient_norm(Runtime& runtime, ResidentStore& store, std::span<const ShardPiece> counted, Communicator& world);

// The first parameter, in the order of the model, whose summed gradient is not finite on some rank. Collective.
std::optional<std::string> first_parameter_not_finite(Runtime& runtime, ResidentStore& store,
                                                      std::span<const ShardPiece> counted, Communicator& world);

}  // namespace deepflow
