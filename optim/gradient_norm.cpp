#include "optim/gradient_norm.h"

#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

int counting_rank(const ShardMap& shards, const Communicator& domain) {
  return shards.num_ranks() > 1 ? domain.rank() : 0;
}

Tensor gradient_piece(ResidentStore& store, const ShardPiece& piece) {
  return store.buckets()[static_cast<size_t>(piece.bucket)].grad.flat_range(piece.begin, piece.end);
}

}  // namespace

double gradient_norm(Runtime& runtime, ResidentStore& store, const ShardMap& shards, Communicator& domain) {
  if (const std::optional<double> known = store.gradient_square_sum()) return std::sqrt(*known);
  double sum = 0;
  for (const ShardPiece& piece : shards.pieces(counting_rank(shards, domain)))
    sum += sum_squares(runtime, gradient_piece(store, piece));
  if (shards.num_ranks() > 1) sum = sum_doubles(domain, std::span(&sum, 1), "gradient norm").front();
  return std::sqrt(sum);
}

std::optional<std::string> first_parameter_not_finite(Runtime& runtime, ResidentStore& store, const ShardMap& shards,
                                                      Communicator& domain) {
  const auto& parameters = store.registry().parameters();
  std::vector<double> bad(parameters.size());
  for (const ShardPiece& piece : shards.pieces(counting_rank(shards, domain)))
    if (!all_finite(runtime, gradient_piece(store, piece)))
      for (size_t i = 0; i < parameters.size(); ++i)
        if (&parameters[i] == piece.parameter) bad[i] = 1;
  bad = sum_doubles(domain, bad, "parameters not finite");
  for (size_t i = 0; i < parameters.size(); ++i)
    if (bad[i] > 0) return parameters[i].spec.name;
  return std::nullopt;
}

}  // namespace deepflow
