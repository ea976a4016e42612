#include "optim/gradient_norm.h"

#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <cmath>

namespace deepflow {

std::vector<ShardPiece> counted_pieces(ResidentStore& store, const GradientDomains& domains) {
  const auto by_domain = [&](auto&& of) {
    return PerDomain<int>(of(GradientDomain::kDense), of(GradientDomain::kExpert));
  };
  const bool whole = store.shards().num_ranks() == 1;
  std::vector<ShardPiece> pieces;
  if (whole) {
    // The sum is whole on all ranks of the gradient axes: each counts a share.
    const ShardMap shares(store.buckets(), by_domain([&](GradientDomain d) { return domains.gradient(d).size(); }),
                          UpdateUnit::kRow);
    pieces = shares.pieces(by_domain([&](GradientDomain d) { return domains.gradient(d).rank(); }));
  } else {
    pieces = store.pieces();
  }
  const auto is_for_others = [&](const ShardPiece& piece) {
    const bool counts_elsewhere = !whole && domains.replica(domains.of(*piece.parameter->pack)).rank() != 0;
    return counts_elsewhere || !domains.counts(*piece.parameter);
  };
  pieces.erase(std::remove_if(pieces.begin(), pieces.end(), is_for_others), pieces.end());
  return pieces;
}

double gradient_norm(Runtime& runtime, ResidentStore& store, std::span<const ShardPiece> counted, Communicator& world) {
  if (const std::optional<double> known = store.gradient_square_sum()) return std::sqrt(*known);
  double sum = 0;
  for (const ShardPiece& piece : counted) sum += sum_squares(runtime, store.gradient_piece(piece));
  return std::sqrt(sum_doubles(world, std::span(&sum, 1), "gradient norm").front());
}

std::optional<std::string> first_parameter_not_finite(Runtime& runtime, ResidentStore& store,
                                                      std::span<const ShardPiece> counted, Communicator& world) {
  const auto& parameters = store.registry().parameters();
  std::vector<double> bad(parameters.size());
  for (const ShardPiece& piece : counted)
    if (!all_finite(runtime, store.gradient_piece(piece)))
      for (size_t i = 0; i < parameters.size(); ++i)
        if (&parameters[i] == piece.parameter) bad[i] = 1;
  bad = sum_doubles(world, bad, "parameters not finite");
  for (size_t i = 0; i < parameters.size(); ++i)
    if (bad[i] > 0) return parameters[i].spec.name;
  return std::nullopt;
}

}  // namespace deepflow
