#include "engine/sampling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace deepflow {

void declare(OptionGroup& group, SamplingOptions& o) {
  group.add("temperature", o.temperature).help("divides the logits; 0: always the likeliest token").range(0, 100);
  group.add("top_k", o.top_k).help("sample among the k likeliest tokens; 0: all").at_least(0);
  group.add("top_p", o.top_p)
      .help("sample among the likeliest tokens whose probabilities reach p; 1: all")
      .range(0, 1)
      .source("Holtzman et al. 2020, section 3.1");
  group.add("max_tokens", o.max_tokens).help("longest text").unit("tokens").at_least(0);
  group.add("seed", o.seed).help("of the sampling");
  group.add("latent_cache", o.latent_cache)
      .help(
          "for models with latent attention: store the short rows that keys and values are made of, and attend to them "
          "as they are; false: store the keys and values of all heads")
      .source("DeepSeek-V2, section 2.1.2");
  group.add("speculate", o.speculate)
      .help("the model's multi-token prediction drafts tokens ahead; the same texts in fewer passes")
      .source("DeepSeek-V3, arXiv 2412.19437, section 5.4.3");
}

namespace {

// In two passes over memory, which the compiler makes wide; the lower id of equals.
int32_t likeliest(std::span<const float> logits) {
  constexpr size_t kLanes = 32;
  std::array<float, kLanes> highest;
  highest.fill(-std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes)
    for (size_t k = 0; k < kLanes; ++k) highest[k] = logits[i + k] > highest[k] ? logits[i + k] : highest[k];
  for (; i < logits.size(); ++i) highest[0] = std::max(highest[0], logits[i]);
  const float top = *std::max_element(highest.begin(), highest.end());
  const auto found = std::find(logits.begin(), logits.end(), top);
  return found == logits.end() ? 0 : static_cast<int32_t>(found - logits.begin());
}

}  // namespace

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform) {
  const int32_t likeliest_id = likeliest(logits);
  if (options.temperature == 0) return likeliest_id;
  const auto likelier = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < ids.size()) {
    std::nth_element(ids.begin(), ids.begin() + options.top_k, ids.end(), likelier);
    ids.resize(static_cast<size_t>(options.top_k));
  }
  const double top = static_cast<double>(logits[static_cast<size_t>(likeliest_id)]);
  const auto weight = [&](int32_t id) {
    return std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - top) / options.temperature);
  };
  std::vector<double> weights;
  weights.reserve(ids.size());
  double sum = 0;
  for (const int32_t id : ids) sum += weights.emplace_back(weight(id));

  // The likeliest tokens matter until they reach this share of the sum. What has less than an equal part of the rest
  // cannot be among them, so that few are left to sort. The last factor is room for rounding.
  const double reach = options.top_p < 1 ? options.top_p : uniform;
  const double least = (1 - reach) * sum / static_cast<double>(ids.size()) * (1 - 1e-9);
  size_t left = 0;
  for (size_t i = 0; i < ids.size(); ++i)
    if (weights[i] >= least) ids[left++] = ids[i];
  ids.resize(left);
  if (ids.empty()) return likeliest_id;  // logits that are not finite
  std::sort(ids.begin(), ids.end(), likelier);

  size_t kept = ids.size();
  double kept_sum = sum;
  if (options.top_p < 1) {
    kept = 0;
    kept_sum = 0;
    while (kept < ids.size() && (kept == 0 || kept_sum < options.top_p * sum)) kept_sum += weight(ids[kept++]);
  }
  double below = uniform * kept_sum;
  for (size_t i = 0; i + 1 < kept; ++i) {
    const double w = weight(ids[i]);
    if (below < w) return ids[i];
    below -= w;
  }
  return ids[kept - 1];
}

}  // namespace deepflow
