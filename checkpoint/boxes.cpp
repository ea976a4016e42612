#include "checkpoint/boxes.h"

#include <algorithm>

namespace deepflow {
namespace {

// Element of the box's values at which a coordinate inside it lies.
int64_t offset_in(const Box& box, const std::vector<int64_t>& at) {
  int64_t offset = 0;
  for (size_t d = 0; d < at.size(); ++d) offset = offset * (box.hi[d] - box.lo[d]) + at[d] - box.lo[d];
  return offset;
}

bool spans(const Box& box, const Box& part, size_t dim) {
  return box.lo[dim] == part.lo[dim] && box.hi[dim] == part.hi[dim];
}

// How many of the last dims of `part` lie in one run in both: the first that is not whole still counts.
size_t run_dims(const Box& part, const Box& a, const Box& b) {
  size_t dims = 0;
  for (size_t d = part.lo.size(); d-- > 0;) {
    ++dims;
    if (!spans(a, part, d) || !spans(b, part, d)) break;
  }
  return dims;
}

struct Place {
  const Box& box;
  int64_t begin;  // of its values in those of the list
};

void share(const Place& a, const Place& b, const std::function<void(const SharedRun&)>& f) {
  const std::optional<Box> common = intersection(a.box, b.box);
  if (!common) return;
  const size_t dims = common->lo.size(), outer = dims - run_dims(*common, a.box, b.box);
  int64_t count = 1;
  for (size_t d = outer; d < dims; ++d) count *= common->hi[d] - common->lo[d];
  std::vector<int64_t> at = common->lo;
  for (;;) {
    f({a.begin + offset_in(a.box, at), b.begin + offset_in(b.box, at), count});
    size_t d = outer;
    while (d > 0 && ++at[d - 1] == common->hi[d - 1]) at[d - 1] = common->lo[d - 1], --d;
    if (d == 0) return;
  }
}

}  // namespace

std::optional<Box> intersection(const Box& a, const Box& b) {
  Box common = a;
  for (size_t d = 0; d < a.lo.size(); ++d) {
    common.lo[d] = std::max(a.lo[d], b.lo[d]);
    common.hi[d] = std::min(a.hi[d], b.hi[d]);
    if (common.lo[d] >= common.hi[d]) return std::nullopt;
  }
  return common;
}

std::vector<Box> without(const Box& box, const Box& taken) {
  const std::optional<Box> common = intersection(box, taken);
  if (!common) return {box};
  std::vector<Box> parts;
  Box rest = box;
  for (size_t d = 0; d < box.lo.size(); ++d) {
    if (rest.lo[d] < common->lo[d]) {
      parts.push_back(rest);
      parts.back().hi[d] = common->lo[d];
    }
    if (common->hi[d] < rest.hi[d]) {
      parts.push_back(rest);
      parts.back().lo[d] = common->hi[d];
    }
    rest.lo[d] = common->lo[d];
    rest.hi[d] = common->hi[d];
  }
  return parts;
}

std::vector<Box> without(const std::vector<Box>& boxes, const std::vector<Box>& taken) {
  std::vector<Box> left = boxes;
  for (const Box& t : taken) {
    std::vector<Box> next;
    for (const Box& box : left) {
      const std::vector<Box> parts = without(box, t);
      next.insert(next.end(), parts.begin(), parts.end());
    }
    left = std::move(next);
  }
  return left;
}

int64_t num_elements(const std::vector<Box>& boxes) {
  int64_t sum = 0;
  for (const Box& box : boxes) sum += box.num_elements();
  return sum;
}

std::vector<Box> cut(const Box& box, int64_t max_elements) {
  const int64_t elements = box.num_elements();
  if (elements <= max_elements) return {box};
  size_t dim = 0;
  while (box.hi[dim] - box.lo[dim] == 1) ++dim;
  const int64_t each = elements / (box.hi[dim] - box.lo[dim]), step = std::max<int64_t>(1, max_elements / each);
  std::vector<Box> parts;
  for (int64_t at = box.lo[dim]; at < box.hi[dim]; at += step) {
    Box part = box;
    part.lo[dim] = at;
    part.hi[dim] = std::min(at + step, box.hi[dim]);
    const std::vector<Box> smaller = cut(part, std::max(max_elements, int64_t{1}));
    parts.insert(parts.end(), smaller.begin(), smaller.end());
  }
  return parts;
}

void for_each_shared_run(const std::vector<Box>& a, const std::vector<Box>& b,
                         const std::function<void(const SharedRun&)>& f) {
  int64_t a_begin = 0;
  for (const Box& in_a : a) {
    int64_t b_begin = 0;
    for (const Box& in_b : b) {
      share({in_a, a_begin}, {in_b, b_begin}, f);
      b_begin += in_b.num_elements();
    }
    a_begin += in_a.num_elements();
  }
}

}  // namespace deepflow
