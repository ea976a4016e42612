#include "models/parts/moe.h"

#include "core/option.h"
#include "kernels/ops/grouped_linear.h"
#include "kernels/ops/residual.h"
#include "kernels/ops/router_loss.h"

#include <algorithm>
#include <vector>

namespace deepflow {
namespace {

ParameterSpec spec_of(const std::string& name, const Shape& shape, Role role, Initialiser init) {
  ParameterSpec spec;
  spec.name = name;
  spec.shape = shape;
  spec.role = role;
  spec.init = init;
  return spec;
}

}  // namespace

void declare(OptionGroup& group, ExpertBalance& b) {
  group.add("balance_loss", b.loss)
      .help(
          "coefficient of the auxiliary loss of every layer of experts, 1 for each sequence whose experts are evenly "
          "loaded; mean over the sequences of a step")
      .range(0, 1000)
      .source("Fedus et al. 2021, section 2.2; DeepSeek-V3, section 2.1.2");
  group.add("router_z_loss", b.z_loss)
      .help("coefficient of the squared log-sum-exp of a router's logits, mean over the tokens of a step")
      .range(0, 1000)
      .source("Zoph et al. 2022, section 3.3");
  group.add("router_bias_rate", b.bias_rate)
      .help(
          "balance without a loss: what is added after each step to the bias by which experts that got fewer tokens "
          "than the mean are chosen, and taken from that of the others; 0: no bias")
      .range(0, 1)
      .source("DeepSeek-V3, section 2.1.2");
  group.add("capacity_factor", b.capacity)
      .help(
          "while training an expert takes at most this many times its even share of a sequence's choices; first "
          "choices "
          "go before second ones, then earlier tokens before later ones; 0: none is dropped")
      .range(0, 1000)
      .source("Lepikhin et al. 2020; Fedus et al. 2021");
}

MoeLayer::MoeLayer(ParameterRegistry& registry, const std::string& name, const MoeOptions& o)
    : name_(name), experts_(o.experts), routing_(o.routing), balance_(o.balance) {
  const Initialiser inner = Initialiser::normal(o.stddev), outer = Initialiser::normal(o.out_stddev);
  const Shape wide{o.experts, o.ffn, o.width};
  router_ = registry.add(spec_of(name + ".router.weight", {o.experts, o.width}, Role::kRouter, inner));
  if (balance_.bias_rate > 0)
    bias_ = registry.add(spec_of(name + ".router.bias", {o.experts}, Role::kBuffer, Initialiser::constant(0)));
  gate_up_ = registry.add(name + ".gate_up.weight", {spec_of(name + ".gate.weight", wide, Role::kExpert, inner),
                                                     spec_of(name + ".up.weight", wide, Role::kExpert, inner)});
  down_ = registry.add(spec_of(name + ".down.weight", {o.experts, o.width, o.ffn}, Role::kExpert, outer));
  if (o.shared_ffn > 0)
    shared_.emplace(
        registry, name + ".shared",
        MlpOptions{
            .width = o.width, .ffn = o.shared_ffn, .bias = false, .stddev = o.stddev, .out_stddev = o.out_stddev});
}

ExpertLayer MoeLayer::description() const { return {name_, experts_, bias_, balance_.bias_rate}; }

Var MoeLayer::operator()(ForwardContext& context, const Var& x) const {
  const Choice choice = choose(context, x);
  const Dispatch dispatch = make_dispatch(context.runtime, choice.expert, experts_);
  const Var rows = gather_rows(context, x, dispatch);
  const Var outputs = run_experts(context, rows, dispatch);
  const Var routed = combine_rows(context, outputs, choice.weights, dispatch);
  return shared_ ? add_outputs(context, routed, (*shared_)(context, x)) : routed;
}

MoeLayer::Choice MoeLayer::choose(ForwardContext& context, const Var& x) const {
  const Var logits = router_logits(context, x, *router_);
  const Routed routed = route(context, logits, routing_, bias_);
  add_losses(context, logits, routed);
  // Nothing is dropped outside of training: what a sequence says would depend on its end.
  const bool limited = context.training && balance_.capacity > 0;
  const Tensor kept = limited ? limit_experts(context, routed.expert, experts_, balance_.capacity) : routed.expert;
  if (context.statistics) count(context, routed.expert, kept);
  return {kept, routed.weights};
}

void MoeLayer::add_losses(ForwardContext& context, const Var& logits, const Routed& routed) const {
  if (context.sequence_weight == 0 || context.rows.rows() == 0) return;
  const auto add = [&](const Var& loss, const char* name) {
    if (context.statistics) context.statistics->add(name_ + name, static_cast<double>(*loss.value.data<float>()));
    if (!context.tape) return;
    Tensor seed = context.empty({1}, DType::kF32);
    *seed.data<float>() = context.loss_seed;
    context.tape->root(loss, std::move(seed));
  };
  const auto weight = [&](double coefficient) {
    return static_cast<float>(coefficient * static_cast<double>(context.sequence_weight));
  };
  if (balance_.loss > 0) {
    const bool normalise = routing_.score == RouterScore::kSigmoid;
    add(balance_loss(context, routed.scores, routed.expert, normalise, weight(balance_.loss)), "/balance_loss");
  }
  if (balance_.z_loss > 0)
    add(router_z_loss(context, logits, weight(balance_.z_loss / static_cast<double>(context.rows.sequence))),
        "/z_loss");
}

void MoeLayer::count(ForwardContext& context, const Tensor& routed, const Tensor& kept) const {
  std::vector<double> load(static_cast<size_t>(experts_));
  int64_t dropped = 0;
  for (int64_t i = 0; i < routed.num_elements(); ++i) {
    load[static_cast<size_t>(routed.data<int32_t>()[i])] += 1;
    if (kept.data<int32_t>()[i] < 0) ++dropped;
  }
  context.statistics->add(name_ + "/load", load);
  context.statistics->add(name_ + "/dropped", static_cast<double>(dropped));
}

// rows sorted by expert -> outputs in the same order.
Var MoeLayer::run_experts(ForwardContext& context, const Var& rows, const Dispatch& dispatch) const {
  const Var wide = grouped_linear(context, rows, *gate_up_, {dispatch.begin});
  return grouped_linear(context, swiglu(context, wide), *down_, {dispatch.begin});
}

}  // namespace deepflow
