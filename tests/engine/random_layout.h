#pragma once

#include "tests/engine/tiny_run.h"

#include <string>

namespace deepflow::testing {

struct LayoutCase {
  TinyOptions options;
  std::string text;  // all that was drawn
};

// Case number `index` of a seed on so many ranks: a layout that fills the ranks, a small model that it can split, data,
// micro-batches and everything else that must not change the result. A pure function; all that it draws can run.
LayoutCase draw_layout(uint64_t seed, int64_t index, int num_ranks);

std::string text_of(const TinyOptions& options);
bool has_experts(const TinyOptions& options);
bool deals_or_repeats(int64_t units, int64_t ranks);  // whole units on every rank, or one on several

}  // namespace deepflow::testing
