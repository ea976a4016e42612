#include "kernels/ops/closest_choice.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

namespace deepflow {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Between value number `taken` and the one behind it, in falling order.
double gap_behind(std::vector<double> values, int64_t taken) {
  if (taken >= static_cast<int64_t>(values.size())) return kInfinity;
  std::sort(values.begin(), values.end(), std::greater<>());
  return values[static_cast<size_t>(taken) - 1] - values[static_cast<size_t>(taken)];
}

double closest_of_row(std::vector<double> values, const Routing& r) {
  const auto size = static_cast<int64_t>(values.size()) / r.groups;
  if (r.top_groups == r.groups) return gap_behind(std::move(values), r.choices);
  std::vector<double> worth;
  for (int64_t g = 0; g < r.groups; ++g) {
    std::vector<double> members(values.begin() + g * size, values.begin() + (g + 1) * size);
    std::sort(members.begin(), members.end(), std::greater<>());
    members.resize(static_cast<size_t>(std::min(size, r.group_best)));
    worth.push_back(std::accumulate(members.begin(), members.end(), 0.0));
  }
  std::vector<int64_t> order(worth.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return worth[static_cast<size_t>(a)] > worth[static_cast<size_t>(b)]; });
  std::vector<double> reachable;
  for (int64_t i = 0; i < r.top_groups; ++i) {
    const auto begin = values.begin() + order[static_cast<size_t>(i)] * size;
    reachable.insert(reachable.end(), begin, begin + size);
  }
  return std::min(gap_behind(worth, r.top_groups), gap_behind(reachable, r.choices));
}

}  // namespace

double closest_choice(const Runtime& runtime, const Tensor& scores, const float* bias, const Routing& routing) {
  const int64_t experts = scores.cols();
  std::vector<double> of_thread(static_cast<size_t>(runtime.pool().size()), kInfinity);
  runtime.pool().run([&](int thread, int threads) {
    double& closest = of_thread[static_cast<size_t>(thread)];
    std::vector<double> values(static_cast<size_t>(experts));
    for (int64_t row = scores.rows() * thread / threads; row < scores.rows() * (thread + 1) / threads; ++row) {
      const float* s = scores.data<float>() + row * experts;
      for (int64_t e = 0; e < experts; ++e)
        values[static_cast<size_t>(e)] = static_cast<double>(s[e]) + (bias ? static_cast<double>(bias[e]) : 0.0);
      closest = std::min(closest, closest_of_row(values, routing));
    }
  });
  return *std::min_element(of_thread.begin(), of_thread.end());
}

}  // namespace deepflow
