#include "kernels/ops/router.h"

#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

OpBench bench_of(CpuIsa isa, DType dtype = DType::kF32) {
  RuntimeOptions options;
  options.cpu_isa = isa;
  return OpBench(dtype, options);
}

std::vector<double> scores_of(RouterScore kind, const std::vector<double>& logits) {
  std::vector<double> s;
  double sum = 0;
  for (const double x : logits) {
    s.push_back(kind == RouterScore::kSoftmax ? std::exp(x) : 1 / (1 + std::exp(-x)));
    sum += s.back();
  }
  if (kind == RouterScore::kSoftmax)
    for (double& v : s) v /= sum;
  return s;
}

// The selection as the papers state it: sort, mask, sort.
std::vector<int> plain_selection(const std::vector<double>& biased, const Routing& r) {
  const auto by_value = [](const std::vector<double>& v) {
    std::vector<int> order(v.size());
    for (size_t i = 0; i < v.size(); ++i) order[i] = static_cast<int>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return v[static_cast<size_t>(a)] > v[static_cast<size_t>(b)]; });
    return order;
  };
  const size_t size = biased.size() / static_cast<size_t>(r.groups);
  std::vector<double> of_group;
  for (int64_t g = 0; g < r.groups; ++g) {
    std::vector<double> members(biased.begin() + static_cast<int64_t>(size) * g,
                                biased.begin() + static_cast<int64_t>(size) * (g + 1));
    std::sort(members.rbegin(), members.rend());
    members.resize(std::min(size, static_cast<size_t>(r.group_best)));
    of_group.push_back(std::accumulate(members.begin(), members.end(), 0.0));
  }
  std::vector<int> groups = by_value(of_group);
  groups.resize(static_cast<size_t>(r.top_groups));
  std::vector<double> masked(biased.size(), -std::numeric_limits<double>::infinity());
  for (const int g : groups)
    for (size_t i = 0; i < size; ++i) {
      const size_t e = static_cast<size_t>(g) * size + i;
      masked[e] = biased[e];
    }
  std::vector<int> chosen = by_value(masked);
  chosen.resize(static_cast<size_t>(r.choices));
  return chosen;
}

struct Case {
  int64_t experts;
  Routing routing;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid})
    for (const bool normalise : {true, false}) {
      all.push_back({8, {score, 2, 1, 1, normalise, 1}});
      all.push_back({5, {score, 1, 1, 1, normalise, 1.5f}});
      all.push_back({3, {score, 3, 1, 1, normalise, 1}});
      all.push_back({64, {score, 6, 8, 3, normalise, 2.5f}});
      all.push_back({16, {score, 4, 16, 5, normalise, 1}});
      all.push_back({256, {score, 8, 8, 4, normalise, 2.5f}});
      all.push_back({160, {score, 6, 8, 3, normalise, 16, 1}});
      all.push_back({12, {score, 2, 3, 1, normalise, 1, 4}});
    }
  return all;
}

std::vector<double> row_of(const std::vector<double>& v, int64_t row, int64_t cols) {
  return {v.begin() + row * cols, v.begin() + (row + 1) * cols};
}

TEST(Router, ChoosesAndWeighsAsThePlainReference) {
  for (const CpuIsa isa : testing::runnable_isas()) {
    OpBench bench = bench_of(isa);
    for (const Case& c : cases())
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(fmt::format("{} E {} groups {} bias {}", name_of(isa), c.experts, c.routing.groups, with_bias));
        Pack& bias = bench.store.add_normal(fmt::format("bias {}", c.experts), {c.experts}, Role::kBuffer, 0.1f);
        const Tensor logits = bench.normal("logits", {37, c.experts}, DType::kF32, 1.5f);
        ForwardContext context = bench.forward(nullptr);
        const Routed routed = route(context, {logits}, c.routing, with_bias ? &bias : nullptr);
        const auto x = values_of(logits), s = values_of(routed.scores.value), chosen = values_of(routed.expert);
        const auto weights = values_of(routed.weights.value), b = values_of(bench.store.master(bias));
        std::vector<double> expected_scores, expected_weights;
        for (int64_t row = 0; row < 37; ++row) {
          const auto reference = scores_of(c.routing.score, row_of(x, row, c.experts));
          expected_scores.insert(expected_scores.end(), reference.begin(), reference.end());
          std::vector<double> biased = row_of(s, row, c.experts);  // with the op's own rounding: no near-ties
          for (size_t e = 0; with_bias && e < biased.size(); ++e)
            biased[e] = static_cast<double>(static_cast<float>(biased[e]) + static_cast<float>(b[e]));
          const auto best = plain_selection(biased, c.routing);
          double sum = 0;
          for (const int e : best) sum += reference[static_cast<size_t>(e)];
          for (size_t i = 0; i < best.size(); ++i) {
            EXPECT_EQ(best[i], chosen[static_cast<size_t>(row * c.routing.choices) + i]) << row;
            expected_weights.push_back(reference[static_cast<size_t>(best[i])] * static_cast<double>(c.routing.scale) /
                                       (c.routing.normalise ? sum : 1));
          }
        }
        EXPECT_LT(relative_error(s, expected_scores), 1e-6);
        EXPECT_LT(relative_error(weights, expected_weights), 1e-6);
      }
  }
}

TEST(Router, EqualScoresGoToTheLowerIndex) {
  OpBench bench;
  Tensor logits = bench.empty({2, 8}, DType::kF32);
  const float values[] = {0, 1, 0, 1, 1, 0, 1, 0, 2, 2, 2, 2, 2, 2, 2, 2};
  std::copy(values, values + 16, logits.data<float>());
  ForwardContext context = bench.forward(nullptr);
  Routing routing;
  routing.choices = 5;
  EXPECT_EQ(values_of(route(context, {logits}, routing, nullptr).expert),
            (std::vector<double>{1, 3, 4, 6, 0, 0, 1, 2, 3, 4}));
  routing.choices = 3;
  routing.groups = 4;
  routing.top_groups = 2;  // all pairs but {4, 5} and {6, 7} are equal in the first row: so are these
  EXPECT_EQ(values_of(route(context, {logits}, routing, nullptr).expert), (std::vector<double>{1, 3, 0, 0, 1, 2}));
}

TEST(Router, ScoresThatAreNotFiniteStayInRange) {
  const float bad[] = {std::nanf(""), INFINITY, -INFINITY};
  for (const CpuIsa isa : testing::runnable_isas()) {
    OpBench bench = bench_of(isa);
    for (const Case& c : cases())
      for (const float value : bad)
        for (const bool all : {true, false}) {
          Tensor logits = bench.normal("logits", {3, c.experts}, DType::kF32);
          for (int64_t i = 0; i < logits.num_elements(); ++i)
            if (all || i % 3 == 0) logits.data<float>()[i] = value;
          Tape tape;
          ForwardContext context = bench.forward(&tape);
          const Var leaf = tape.leaf(logits);
          const Routed routed = route(context, leaf, c.routing, nullptr);
          const auto chosen = values_of(routed.expert);
          for (int64_t row = 0; row < 3; ++row) {
            const auto of_row = row_of(chosen, row, c.routing.choices);
            EXPECT_EQ(std::set<double>(of_row.begin(), of_row.end()).size(), of_row.size());
            EXPECT_GE(*std::min_element(of_row.begin(), of_row.end()), 0);
            EXPECT_LT(*std::max_element(of_row.begin(), of_row.end()), static_cast<double>(c.experts));
          }
          BackwardContext backward = bench.backward();
          tape.root(routed.weights, {bench.normal("dw", {3, c.routing.choices}, DType::kF32), nullptr}, backward);
          tape.backward(backward);
          EXPECT_EQ(tape.take(leaf).value.num_elements(), logits.num_elements());
          if (std::isnan(value) && all) {  // and it is seen
            EXPECT_TRUE(std::isnan(values_of(routed.weights.value).front()));
          }
        }
  }
}

// x -> logits -> weights, with a gradient to each expert's weight: the order of the choices does not matter.
struct Chain {
  OpBench& bench;
  const Routing& routing;
  Pack& weight;
  Pack& bias;
  Tensor x, slopes;  // f32 [M, E]

  Routed forward(ForwardContext& context, const Var& in) const {
    return route(context, router_logits(context, in, weight), routing, &bias);
  }
  Tensor dweights_of(const Routed& routed) const {
    Tensor d = bench.empty(routed.expert.shape(), DType::kF32);
    for (int64_t i = 0; i < d.num_elements(); ++i)
      d.data<float>()[i] = slopes.data<float>()[i / routing.choices * slopes.cols() + routed.expert.data<int32_t>()[i]];
    return d;
  }
  double loss() const {
    ForwardContext context = bench.forward(nullptr);
    const Routed routed = forward(context, {x});
    const auto w = values_of(routed.weights.value), d = values_of(dweights_of(routed));
    double sum = 0;
    for (size_t i = 0; i < w.size(); ++i) sum += w[i] * d[i];
    return sum;
  }
  Tensor gradient() const {
    Tape tape;
    ForwardContext context = bench.forward(&tape);
    const Var in = tape.leaf(x);
    BackwardContext backward = bench.backward();
    const Routed routed = forward(context, in);
    tape.root(routed.weights, {dweights_of(routed), nullptr}, backward);
    bench.store.begin_step();
    tape.backward_input(backward);
    tape.backward_weight(backward);
    return tape.take(in).value;
  }
};

TEST(Router, GradientsMatchDifferenceQuotients) {
  RuntimeOptions options;
  options.threads = 1;
  OpBench bench(DType::kF32, options);
  for (const Case& c : cases()) {
    if (c.experts > 16) continue;
    SCOPED_TRACE(fmt::format("E {} normalise {}", c.experts, c.routing.normalise));
    const std::string name = fmt::format("{} {}", c.experts, c.routing.groups);
    Pack& weight = bench.store.add_normal("router " + name, {c.experts, 12}, Role::kRouter, 0.7f);
    Pack& bias = bench.store.add_normal("bias " + name, {c.experts}, Role::kBuffer, 0.3f);
    Chain chain{bench,
                c.routing,
                weight,
                bias,
                bench.normal("x", {4, 12}, DType::kF32),
                bench.normal("dw", {4, c.experts}, DType::kF32)};
    const Tensor dx = chain.gradient();
    EXPECT_EQ(bench.store.contributions(bias), 1);
    for (const double g : values_of(bench.store.gradient_value(bias))) EXPECT_EQ(g, 0);
    const Tensor dweight = bench.cast(bench.store.gradient_value(weight), DType::kF32);
    if (c.routing.choices == 1 && c.routing.normalise) {  // the weight is always `scale`
      for (const Tensor& gradient : {dx, dweight})
        for (const double g : values_of(gradient)) EXPECT_EQ(g, 0) << "noise, which Adafactor would follow";
      continue;
    }
    const auto loss = [&] { return chain.loss(); };
    expect_gradient(chain.x, dx, loss, 1e-3, 5e-3);
    expect_gradient(bench.store.master(weight), dweight, loss, 1e-3, 5e-3);
    EXPECT_EQ(bench.store.acquired(weight), 0);
    EXPECT_EQ(bench.store.acquired(bias), 0);
  }
}

TEST(Router, LogitsAreMultipliedInF32WhateverTheRowsAre) {
  for (const auto [isa, dtype] : testing::every_isa_and_dtype()) {
    OpBench bench = bench_of(isa, dtype);
    Pack& weight = bench.store.add_normal("router", {8, 96}, Role::kRouter, 1);
    const Tensor x = bench.normal("x", {33, 96}, dtype);
    ForwardContext context = bench.forward(nullptr);
    const auto logits = values_of(router_logits(context, {x}, weight).value);
    const auto rows = values_of(x), w = values_of(bench.store.master(weight));
    std::vector<double> expected;
    for (size_t r = 0; r < 33; ++r)
      for (size_t e = 0; e < 8; ++e) {
        double sum = 0;
        for (size_t i = 0; i < 96; ++i) sum += rows[r * 96 + i] * w[e * 96 + i];
        expected.push_back(sum);
      }
    EXPECT_LT(relative_error(logits, expected), 1e-6) << name_of(isa) << " " << name_of(dtype);
  }
}

TEST(Router, CapacityDropsLaterChoicesAndThenLaterTokens) {
  OpBench bench;
  ForwardContext context = bench.forward(nullptr);
  EXPECT_EQ(expert_capacity(1.0, 4, 2, 4), 2);
  EXPECT_EQ(expert_capacity(1.1, 4, 2, 4), 3);
  std::vector<int32_t> ids = {0, 1, 1, 0, 0, 2, 0, 1,   // the first sequence: expert 0 is full after its tokens 0, 2
                              3, 0, 3, 1, 2, 3, 1, 3};  // the second one counts for itself
  const Tensor expert = Tensor::wrap(ids.data(), {8, 2}, DType::kI32);
  EXPECT_EQ(values_of(limit_experts(context, expert, 4, 4, 1.0)),
            (std::vector<double>{0, 1, 1, -1, 0, 2, -1, -1, 3, 0, 3, 1, 2, -1, 1, -1}));
  EXPECT_EQ(values_of(limit_experts(context, expert, 4, 4, 4.0)), values_of(expert));
}

TEST(Router, ZeroRowsPass) {
  OpBench bench;
  Pack& weight = bench.store.add_normal("router", {8, 16}, Role::kRouter, 1);
  Tape tape;
  ForwardContext context = bench.forward(&tape);
  const Var x = tape.leaf(bench.empty({0, 16}, DType::kF32));
  const Routed routed = route(context, router_logits(context, x, weight), {}, nullptr);
  BackwardContext backward = bench.backward();
  tape.root(routed.weights, {bench.empty({0, 2}, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(bench.store.contributions(weight), 1);
  for (const double g : values_of(bench.store.gradient_value(weight))) EXPECT_EQ(g, 0);
}

}  // namespace
}  // namespace deepflow
