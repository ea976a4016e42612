#include "checkpoint/blockstore/compare.h"

#include "checkpoint/blockstore/contents.h"
#include "checkpoint/blockstore/tensor_parts.h"
#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace deepflow {
namespace {

constexpr int64_t kGrain = 1 << 16;

void add_element(const char* a, const char* b, DType dtype, int64_t i, TensorDifference& d) {
  const double x = number_at(a, dtype, i), y = number_at(b, dtype, i);
  const double largest = std::max(std::abs(x), std::abs(y));
  double absolute = std::abs(x - y);
  if (x == y || (std::isnan(x) && std::isnan(y))) absolute = 0;
  if (std::isnan(absolute)) absolute = std::numeric_limits<double>::infinity();
  ++d.different;
  d.absolute = std::max(d.absolute, absolute);
  if (absolute > 0) d.relative = std::max(d.relative, std::isfinite(absolute) ? absolute / largest : absolute);
}

void add_stretch(const char* a, const char* b, DType dtype, int64_t begin, int64_t end, TensorDifference& d) {
  const auto size = static_cast<int64_t>(size_of(dtype));
  if (std::memcmp(a + begin * size, b + begin * size, static_cast<size_t>((end - begin) * size)) == 0) return;
  for (int64_t i = begin; i < end; ++i)
    if (std::memcmp(a + i * size, b + i * size, static_cast<size_t>(size)) != 0) add_element(a, b, dtype, i, d);
}

class Comparer {
 public:
  Comparer(const StoredCheckpoint& a, const StoredCheckpoint& b, const ThreadPool& pool, const std::string& kind)
      : a_(a), b_(b), pool_(pool), kind_(kind), from_a_(a, &pool), from_b_(b, &pool) {}

  Comparison run() {
    for (const StoredTensor& t : b_.manifest().tensors)
      if (is_asked_for(t) && !a_.manifest().find(t.name)) result_.only_in_b.push_back(t.name);
    for (const StoredTensor& t : a_.manifest().tensors) {
      if (!is_asked_for(t)) continue;
      const StoredTensor* other = b_.manifest().find(t.name);
      if (!other)
        result_.only_in_a.push_back(t.name);
      else if (t.dtype != other->dtype || !(t.shape == other->shape))
        result_.misshapen.push_back(fmt::format("{} ({} {}, {} {})", t.name, name_of(t.dtype), t.shape.to_string(),
                                                name_of(other->dtype), other->shape.to_string()));
      else
        compare(t, *other);
    }
    result_.bytes_read = from_a_.bytes_read() + from_b_.bytes_read();
    return result_;
  }

 private:
  bool is_asked_for(const StoredTensor& t) const { return kind_.empty() || state_kind(t.name) == kind_; }

  void compare(const StoredTensor& in_a, const StoredTensor& in_b) {
    TensorDifference d;
    d.name = in_a.name;
    for (const Box& part : parts_of(in_a)) {
      read_part(from_a_, in_a, part, values_a_);
      read_part(from_b_, in_b, part, values_b_);
      const int64_t n = part.num_elements();
      d.elements += n;
      std::vector<TensorDifference> of_thread(static_cast<size_t>(pool_.size()));
      const int64_t pieces = (n + kGrain - 1) / kGrain;
      pool_.run([&](int thread, int threads) {
        const int64_t begin = pieces * thread / threads * kGrain, end = pieces * (thread + 1) / threads * kGrain;
        for (int64_t i = begin; i < std::min(end, n); i += kGrain)
          add_stretch(values_a_.data(), values_b_.data(), in_a.dtype, i, std::min(i + kGrain, n),
                      of_thread[static_cast<size_t>(thread)]);
      });
      for (const TensorDifference& t : of_thread) {
        d.different += t.different;
        d.absolute = std::max(d.absolute, t.absolute);
        d.relative = std::max(d.relative, t.relative);
      }
    }
    result_.elements += d.elements;
    if (d.different > 0)
      result_.different.push_back(d);
    else
      ++result_.same;
  }

  const StoredCheckpoint &a_, &b_;
  const ThreadPool& pool_;
  const std::string& kind_;
  TensorReader from_a_, from_b_;
  std::vector<char> values_a_, values_b_;
  Comparison result_;
};

}  // namespace

Comparison compare_checkpoints(const StoredCheckpoint& a, const StoredCheckpoint& b, const ThreadPool& pool,
                               const std::string& kind) {
  return Comparer(a, b, pool, kind).run();
}

}  // namespace deepflow
