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
    return deals(s.heads, n) && deals_or_repeats(s.kv_heads, n) && deals(s.ffn, n) && deals(s.shared_ffn, n) &&
           s.vocabulary >= n;
  };
  if (fits(tp)) return;
  const auto refuse = [&](const std::string& why) {
    throw ConfigError("parallel: tp {} {}; tp can be {} here", tp, why, fmt::join(sizes_up_to(s.heads, fits), ", "));
  };
  if (!deals(s.heads, tp)) refuse(fmt::format("does not divide {} heads (model.heads)", s.heads));
  if (!deals_or_repeats(s.kv_heads, tp))
    refuse(fmt::format("neither divides {} key heads (model.kv_heads) nor is a multiple of them", s.kv_heads));
  if (!deals(s.ffn, tp)) refuse(fmt::format("does not divide {} hidden features (model.ffn)", s.ffn));
  if (!deals(s.shared_ffn, tp))
    refuse(fmt::format("does not divide {} hidden features of the shared expert", s.shared_ffn));
  refuse(fmt::format("is more than the {} tokens of the vocabulary", s.vocabulary));
}

void check_expert_parallel(const ModelShape& s, const ExpertParallel* ep) {
  if (!is_split(ep)) return;
  if (s.experts == 0)
    throw ConfigError("parallel: ep {} and etp {} split experts, of which this model has none; set both to 1",
                      ep->num_owners(), ep->etp);
  if (!deals(s.experts, ep->num_owners()))
    throw ConfigError("parallel: ep {} does not divide {} experts (model.experts); ep can be {} here", ep->num_owners(),
                      s.experts, fmt::join(sizes_up_to(s.experts, [&](int n) { return deals(s.experts, n); }), ", "));
  if (!deals(s.expert_ffn, ep->etp))
    throw ConfigError("parallel: etp {} does not divide {} hidden features of an expert", ep->etp, s.expert_ffn);
}

}  // namespace

void check_layout(const ModelShape& shape, const ModelLayout& layout, int64_t sequence) {
  const int tp = is_split(layout.tp) ? layout.tp->size() : 1;
  check_tensor_parallel(shape, tp);
  check_expert_parallel(shape, layout.ep);
  if (is_split(layout.cp))
    check_context_parallel(*layout.cp, shape.heads / tp, std::max<int64_t>(shape.kv_heads / tp, 1), sequence);
}

}  // namespace deepflow
