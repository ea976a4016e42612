#include "core/error.h"
#include "models/model.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace deepflow {
namespace {

template <class F>
std::vector<int> sizes_up_to(int64_t limit, F&& fits) {
  std::vector<int> sizes;
  for (int n = 1; n <= limit; ++n)
    if (fits(n)) sizes.push_back(n);
  return sizes;
}

bool deals(int64_t units, int ranks) { return units % ranks == 0; }
bool deals_or_repeats(int64_t units, int ranks) { return units % ranks == 0 || ranks % units == 0; }

void check_tensor_parallel(const ModelShape& s, int tp) {
  const auto fits = [&](int n) {
    return deals(s.heads, n) && deals_or_repeats(s.kv_heads, n) && deals(s.ffn, n) && s.vocabulary >= n;
  };
  if (fits(tp)) return;
  const auto refuse = [&](const std::string& why) {
    throw ConfigError("parallel: tp {} {}; tp can be {} here", tp, why, fmt::join(sizes_up_to(s.heads, fits), ", "));
  };
  if (!deals(s.heads, tp)) refuse(fmt::format("does not divide {} heads (model.heads)", s.heads));
  if (!deals_or_repeats(s.kv_heads, tp))
    refuse(fmt::format("neither divides {} key heads (model.kv_heads) nor is a multiple of them", s.kv_heads));
  if (!deals(s.ffn, tp)) refuse(fmt::format("does not divide {} hidden features (model.ffn)", s.ffn));
  refuse(fmt::format("is more than the {} tokens of the vocabulary", s.vocabulary));
}

}  // namespace

void check_layout(const ModelShape& shape, const ModelLayout& layout, int64_t sequence) {
  const int tp = is_split(layout.tp) ? layout.tp->size() : 1;
  if (shape.experts > 0 && (tp > 1 || is_split(layout.cp)))
    throw ConfigError(
        "parallel: tp {} and cp {} of a model with {} experts a layer; layers of experts are split by dp and pp only: "
        "set tp and cp to 1",
        tp, is_split(layout.cp) ? layout.cp->size() : 1, shape.experts);
  check_tensor_parallel(shape, tp);
  if (is_split(layout.cp))
    check_context_parallel(*layout.cp, shape.heads / tp, std::max<int64_t>(shape.kv_heads / tp, 1), sequence);
}

}  // namespace deepflow
