#include "kernels/ops/router.h"

#include "core/error.h"
#include "kernels/cpu/router.h"
#include "kernels/ops/closest_choice.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/kept_input.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/reuse.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

static_assert(kMostExpertChoices == cpu::kMostChoices && kMostExpertGroups == cpu::kMostGroups);

constexpr int64_t kGrain = 16;  // rows

Tensor in_dtype(Runtime& runtime, const Tensor& t, DType dtype) {
  if (t.dtype() == dtype) return t;
  Tensor result = Tensor::empty(runtime.memory(), t.shape(), dtype);
  copy(runtime, t, result);
  return result;
}

class RouterLogitsNode final : public Node {
 public:
  RouterLogitsNode(const Var& x, Pack& weight) : x_(x), weight_(weight), wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "router_logits"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    dlogits_ = std::move(out[0].value);
    std::vector<Grad> grads(1);
    if (!wants_input_grad_) return grads;
    Tensor dx = Tensor::empty(context.runtime.memory(), {x_.rows(), x_.cols()}, DType::kF32);
    matmul(context.runtime, dlogits_, context.store.acquire(weight_, Form::kMaster, context.stream), dx);
    context.store.release(weight_);
    grads[0].value = in_dtype(context.runtime, dx, x_.dtype());
    return grads;
  }

  void backward_weight(BackwardContext& context) override {
    GradientTarget dw = context.store.gradient(weight_);
    matmul_weight_grad(context.runtime, dlogits_, in_dtype(context.runtime, x_.get(context.runtime), DType::kF32), dw);
    context.store.contributed(weight_);
  }

 private:
  KeptInput x_;
  Tensor dlogits_;
  Pack& weight_;
  bool wants_input_grad_;
};

class ScoresNode final : public Node {
 public:
  ScoresNode(Tensor scores, RouterScore kind) : scores_(std::move(scores)), kind_(kind) {}

  const char* name() const override { return "router_scores"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& rt = context.runtime;
    auto* kernel = kind_ == RouterScore::kSoftmax ? DF_KERNEL(rt.isa(), softmax_scores_backward)
                                                  : DF_KERNEL(rt.isa(), sigmoid_scores_backward);
    const float *s = scores_.data<float>(), *ds = out[0].value.data<float>();
    Tensor dlogits = reuse_or_empty(rt.memory(), out[0].value);
    float* d = dlogits.data<float>();
    rt.pool().parallel_for(scores_.rows(), kGrain,
                           [&](int64_t begin, int64_t end) { kernel(s, ds, d, scores_.cols(), begin, end); });
    scores_ = {};
    return {Grad{std::move(dlogits), nullptr}};
  }

 private:
  Tensor scores_;
  RouterScore kind_;
};

class RouterWeightsNode final : public Node {
 public:
  RouterWeightsNode(Tensor scores, Tensor expert, const Routing& routing, Pack* bias)
      : scores_(std::move(scores)), expert_(std::move(expert)), routing_(routing), bias_(bias) {}

  const char* name() const override { return "router_weights"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& rt = context.runtime;
    auto* kernel = DF_KERNEL(rt.isa(), router_weights_backward);
    Tensor dscores = Tensor::empty(rt.memory(), scores_.shape(), DType::kF32);
    const float *s = scores_.data<float>(), *dw = out[0].value.data<float>();
    const int32_t* chosen = expert_.data<int32_t>();
    float* ds = dscores.data<float>();
    rt.pool().parallel_for(scores_.rows(), kGrain, [&](int64_t begin, int64_t end) {
      kernel(s, chosen, dw, scores_.cols(), routing_.choices, routing_.normalise, routing_.scale, ds, begin, end);
    });
    scores_ = expert_ = {};
    return {Grad{std::move(dscores), nullptr}};
  }

  // What nothing contributes to would hold its bucket back.
  void backward_weight(BackwardContext& context) override {
    if (!bias_) return;
    GradientTarget target = context.store.gradient(*bias_);
    if (!target.accumulate) fill(context.runtime, target.value, 0);
    context.store.contributed(*bias_);
  }

 private:
  Tensor scores_, expert_;
  Routing routing_;
  Pack* bias_;
};

Var router_scores(ForwardContext& context, const Var& logits, RouterScore kind) {
  Runtime& rt = context.runtime;
  auto* kernel =
      kind == RouterScore::kSoftmax ? DF_KERNEL(rt.isa(), softmax_scores) : DF_KERNEL(rt.isa(), sigmoid_scores);
  Tensor scores = context.empty(logits.value.shape(), DType::kF32);
  const float* x = logits.value.data<float>();
  float* s = scores.data<float>();
  rt.pool().parallel_for(scores.rows(), kGrain,
                         [&](int64_t begin, int64_t end) { kernel(x, s, scores.cols(), begin, end); });
  if (!context.tape) return {std::move(scores)};
  return context.tape->record(std::make_unique<ScoresNode>(scores, kind), std::span(&logits, 1), scores);
}

Tensor choose_experts(ForwardContext& context, const Tensor& scores, const Routing& routing, Pack* bias,
                      double& closest) {
  Runtime& rt = context.runtime;
  auto* kernel = DF_KERNEL(rt.isa(), select_experts);
  const cpu::ExpertSelection selection{scores.cols(), routing.groups, routing.group_best, routing.top_groups,
                                       routing.choices};
  Tensor expert = context.empty({scores.rows(), routing.choices}, DType::kI32);
  Tensor bias_values;
  if (bias) bias_values = context.store.acquire(*bias, Form::kMaster, context.stream);
  const float *s = scores.data<float>(), *b = bias ? bias_values.data<float>() : nullptr;
  int32_t* out = expert.data<int32_t>();
  rt.pool().parallel_for(scores.rows(), kGrain,
                         [&](int64_t begin, int64_t end) { kernel(s, b, selection, out, begin, end); });
  if (context.statistics) closest = closest_choice(rt, scores, b, routing);
  if (bias) context.store.release(*bias);
  return expert;
}

}  // namespace

Var router_logits(ForwardContext& context, const Var& x, Pack& weight) {
  DF_ASSERT(x.value.cols() == weight.cols && weight.physical_rows == weight.rows, "{}: x {}", weight.name,
            x.value.shape().to_string());
  Tensor logits = context.empty({x.value.rows(), weight.rows}, DType::kF32);
  MatmulOptions options;
  options.transpose_b = true;
  matmul(context.runtime, in_dtype(context.runtime, x.value, DType::kF32),
         context.store.acquire(weight, Form::kMaster, context.stream), logits, options);
  context.store.release(weight);
  if (!context.tape) return {std::move(logits)};
  return context.tape->record(std::make_unique<RouterLogitsNode>(x, weight), std::span(&x, 1), std::move(logits));
}

Routed route(ForwardContext& context, const Var& logits, const Routing& routing, Pack* bias) {
  const int64_t experts = logits.value.cols(), k = routing.choices;
  DF_ASSERT(logits.value.is_contiguous() && routing.groups > 0 && experts % routing.groups == 0 &&
                routing.top_groups <= routing.groups && routing.group_best > 0 && routing.groups <= kMostExpertGroups &&
                k > 0 && k <= kMostExpertChoices && k <= experts / routing.groups * routing.top_groups,
            "{} experts, {} choices, {} of {} groups", experts, k, routing.top_groups, routing.groups);
  DF_ASSERT(!bias || bias->num_elements() == experts, "{}", bias->name);
  Runtime& rt = context.runtime;
  Routed result;
  result.scores = router_scores(context, logits, routing.score);
  const Tensor& scores = result.scores.value;
  result.expert = choose_experts(context, scores, routing, bias, result.closest);
  auto* kernel = DF_KERNEL(rt.isa(), router_weights);
  Tensor weights = context.empty(result.expert.shape(), DType::kF32);
  const float* s = scores.data<float>();
  const int32_t* chosen = result.expert.data<int32_t>();
  float* w = weights.data<float>();
  rt.pool().parallel_for(scores.rows(), kGrain, [&](int64_t begin, int64_t end) {
    kernel(s, chosen, experts, k, routing.normalise, routing.scale, w, begin, end);
  });
  result.weights = {weights};
  if (context.tape)
    result.weights = context.tape->record(std::make_unique<RouterWeightsNode>(scores, result.expert, routing, bias),
                                          std::span(&result.scores, 1), weights);
  return result;
}

int64_t expert_capacity(double factor, int64_t tokens, int64_t choices, int64_t num_experts) {
  return static_cast<int64_t>(
      std::ceil(factor * static_cast<double>(tokens * choices) / static_cast<double>(num_experts)));
}

Tensor limit_experts(ForwardContext& context, const Tensor& expert, int64_t rows, int64_t num_experts, double factor) {
  const int64_t choices = expert.cols(), sequences = expert.rows() / std::max<int64_t>(1, rows);
  DF_ASSERT(expert.rows() == sequences * rows && expert.is_contiguous(), "{} rows", expert.rows());
  const int64_t capacity = expert_capacity(factor, rows, choices, num_experts);
  Tensor kept = context.empty(expert.shape(), DType::kI32);
  context.runtime.pool().parallel_for(sequences, 1, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> taken(static_cast<size_t>(num_experts));
    for (int64_t sequence = begin; sequence < end; ++sequence) {
      const int32_t* in = expert.data<int32_t>() + sequence * rows * choices;
      int32_t* out = kept.data<int32_t>() + sequence * rows * choices;
      std::fill(taken.begin(), taken.end(), 0);
      for (int64_t choice = 0; choice < choices; ++choice)
        for (int64_t i = choice; i < rows * choices; i += choices)
          out[i] = taken[static_cast<size_t>(in[i])]++ < capacity ? in[i] : -1;
    }
  });
  return kept;
}

}  // namespace deepflow
