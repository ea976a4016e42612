#include "parallel/shard_map.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kVectorPiece = 64;

// Elements of a parameter between which it must not be cut.
int64_t unit_elements(const Parameter& p, UpdateUnit unit) {
  if (p.local_shape.num_dims() < 2) return kVectorPiece;
  const bool has_rows = p.spec.role == Role::kEmbedding || p.spec.role == Role::kHead;
  if (unit == UpdateUnit::kMatrix && p.local_shape.num_dims() == 2 && !has_rows) return p.local_shape.num_elements();
  // Of more dims than two (experts) the rows are those of the first dim, so that every piece is a box.
  return p.local_shape.num_elements() / p.local_shape[0];
}

// The cut nearest to `wanted` that is allowed: a unit boundary of a parameter, or the bucket's end.
int64_t nearest_cut(const Bucket& bucket, int64_t wanted, UpdateUnit unit) {
  int64_t best = wanted * 2 < bucket.num_elements ? 0 : bucket.num_elements;
  const auto consider = [&](int64_t cut) {
    if (std::abs(cut - wanted) < std::abs(best - wanted)) best = cut;
  };
  for (const Pack* pack : bucket.packs)
    for (const Parameter* p : pack->members) {
      const int64_t start = bucket.offset_of(*p), size = p->local_shape.num_elements(), step = unit_elements(*p, unit);
      consider(start);
      const int64_t below = std::clamp<int64_t>((wanted - start) / step * step, 0, size);
      consider(start + below);
      consider(start + std::min(below + step, size));
    }
  return best;
}

Box box_of_range(const Parameter& p, int64_t begin, int64_t end) {
  Box box = p.boxes.front();
  if (p.local_shape.num_dims() < 2) {
    box.hi[0] = box.lo[0] + end;
    box.lo[0] += begin;
  } else {
    const int64_t row = p.local_shape.num_elements() / p.local_shape[0];
    box.hi[0] = box.lo[0] + end / row;
    box.lo[0] += begin / row;
  }
  return box;
}

}  // namespace

ShardMap::ShardMap(const std::vector<Bucket>& buckets, PerDomain<int> ranks, UpdateUnit unit)
    : buckets_(&buckets), num_ranks_(ranks) {
  for (const Bucket& bucket : buckets) {
    const int num_ranks = ranks[bucket.domain];
    std::vector<int64_t> counts;
    int64_t previous = 0;
    for (int r = 1; r <= num_ranks; ++r) {
      const int64_t wanted = bucket.num_elements * r / num_ranks;
      const int64_t cut = r == num_ranks ? bucket.num_elements : std::max(previous, nearest_cut(bucket, wanted, unit));
      counts.push_back(cut - previous);
      previous = cut;
    }
    counts_.push_back(std::move(counts));
  }
}

int ShardMap::num_ranks() const {
  return std::max(num_ranks_[GradientDomain::kDense], num_ranks_[GradientDomain::kExpert]);
}

int64_t ShardMap::begin(int bucket, int rank) const {
  int64_t sum = 0;
  for (int r = 0; r < rank; ++r) sum += counts(bucket)[static_cast<size_t>(r)];
  return sum;
}

std::vector<ShardPiece> ShardMap::pieces(PerDomain<int> place) const {
  std::vector<ShardPiece> result;
  for (const Bucket& bucket : *buckets_) {
    const int rank = place[bucket.domain];
    for (Pack* pack : bucket.packs)
      for (Parameter* p : pack->members) {
        const int64_t start = bucket.offset_of(*p);
        const int64_t lo = std::max(start, begin(bucket.id, rank));
        const int64_t hi = std::min(start + p->local_shape.num_elements(), end(bucket.id, rank));
        if (lo < hi) result.push_back({p, bucket.id, lo, hi, box_of_range(*p, lo - start, hi - start)});
      }
  }
  return result;
}

}  // namespace deepflow
