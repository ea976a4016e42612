#pragma once

#include <cstdint>
#include <vector>

namespace deepflow {

// Rows sorted by group: group g has rows [begin[g], begin[g + 1]). One entry more than groups, the first 0, the last
// the number of rows.
struct RowGroups {
  std::vector<int64_t> begin;
  int64_t num_groups() const { return static_cast<int64_t>(begin.size()) - 1; }
  int64_t first(int64_t g) const { return begin[static_cast<size_t>(g)]; }
  int64_t end(int64_t g) const { return begin[static_cast<size_t>(g) + 1]; }
  int64_t size(int64_t g) const { return end(g) - first(g); }
};

}  // namespace deepflow
