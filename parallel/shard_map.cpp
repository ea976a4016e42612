#include "parallel/shard_map.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kVectorPiece = 64;

// Of one expert, or of the whole matrix.
int64_t matrix_elements(const Parameter& p) {
  const int64_t matrices = p.local_shape.num_dims() > 2 ? p.local_shape[0] : 1;
  return p.local_shape.num_elements() / matrices;
}

// Elements of a parameter between which it must not be cut.
int64_t unit_elements(const Parameter& p, UpdateUnit unit) {
  if (p.local_shape.num_dims() < 2) return kVectorPiece;
  const bool has_rows = p.spec.role == Role::kEmbedding || p.spec.role == Role::kHead;
  return unit == UpdateUnit::kMatrix && !has_rows ? matrix_elements(p) : p.local_shape.cols();
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

// Elements [begin, end) of the local part: whole units, and of experts whole ones or rows of one.
Box box_of_range(const Parameter& p, int64_t begin, int64_t end) {
  Box box = p.boxes.front();
  const auto narrow = [&](size_t dim, int64_t first, int64_t last) {
    box.hi[dim] = box.lo[dim] + last;
    box.lo[dim] += first;
  };
  const int64_t matrix = matrix_elements(p), cols = p.local_shape.cols();
  if (p.local_shape.num_dims() < 2) {
    narrow(0, begin, end);
  } else if (p.local_shape.num_dims() == 2) {
    narrow(0, begin / cols, end / cols);
  } else {
    const int64_t expert = begin / matrix, from = begin - expert * matrix;
    narrow(0, expert, (end + matrix - 1) / matrix);
    if (end - begin < matrix) narrow(1, from / cols, (from + end - begin) / cols);
  }
  return box;
}

// f(begin, end) for the parts of elements [begin, end) of the local part that are boxes: of experts the rest of one,
// whole ones, the beginning of one.
template <class F>
void for_each_box(const Parameter& p, int64_t begin, int64_t end, F&& f) {
  if (p.local_shape.num_dims() > 2) {
    const int64_t matrix = matrix_elements(p), first = (begin + matrix - 1) / matrix * matrix,
                  last = end / matrix * matrix;
    if (first > begin && first < end) {
      f(begin, first);
      begin = first;
    }
    if (begin % matrix == 0 && last > begin && last < end) {
      f(begin, last);
      begin = last;
    }
  }
  f(begin, end);
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
        if (lo < hi)
          for_each_box(*p, lo - start, hi - start, [&](int64_t first, int64_t last) {
            result.push_back({p, bucket.id, start + first, start + last, box_of_range(*p, first, last)});
          });
      }
  }
  return result;
}

}  // namespace deepflow
