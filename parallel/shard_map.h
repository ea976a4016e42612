#pragma once

#include "parallel/bucket.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// The smallest part of a parameter that an optimizer updates as a whole, and so where a shard may be cut: rows, or
// whole matrices (each expert is one). Embeddings and heads, which optimizers of matrices leave to others, are always
// cut between rows.
enum class UpdateUnit : uint8_t { kRow, kMatrix };

// A contiguous piece of one parameter inside one rank's shard.
struct ShardPiece {
  Parameter* parameter;
  int bucket;
  int64_t begin, end;  // elements of the bucket
  Box box;             // the same elements in logical coordinates
};

// Who owns which elements of every bucket (ZeRO, Rajbhandari et al. 2020). With one rank it owns everything. The one
// map serves exchange, optimizer, gather and checkpoint.
class ShardMap {
 public:
  // num_ranks: over which the buckets of each domain are cut.
  ShardMap(const std::vector<Bucket>& buckets, PerDomain<int> num_ranks, UpdateUnit unit);
  ShardMap(const std::vector<Bucket>& buckets, int num_ranks, UpdateUnit unit)
      : ShardMap(buckets, PerDomain<int>(num_ranks), unit) {}

  int num_ranks(GradientDomain domain) const { return num_ranks_[domain]; }
  int num_ranks() const;  // the most of any domain
  // Elements of a bucket that each rank owns; ranks lie one after another.
  const std::vector<int64_t>& counts(int bucket) const { return counts_[static_cast<size_t>(bucket)]; }
  int64_t begin(int bucket, int rank) const;
  int64_t end(int bucket, int rank) const { return begin(bucket, rank) + counts(bucket)[static_cast<size_t>(rank)]; }
  // Padding belongs to no piece. A parameter has one piece at most, of experts three: a box has whole ones or rows of
  // one. rank: the place among the ranks of each domain.
  std::vector<ShardPiece> pieces(PerDomain<int> rank) const;
  std::vector<ShardPiece> pieces(int rank) const { return pieces(PerDomain<int>(rank)); }

 private:
  const std::vector<Bucket>* buckets_;
  PerDomain<int> num_ranks_;
  std::vector<std::vector<int64_t>> counts_;
};

}  // namespace deepflow
