#include "models/parts/moe.h"

#include "core/option.h"
#include "kernels/ops/grouped_linear.h"
#include "kernels/ops/residual.h"
#include "kernels/ops/router_loss.h"
#include "parallel/ops/expert_exchange.h"
#include "parallel/ops/row_exchange.h"

#include <algorithm>
#include <numeric>
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

// To other ranks.
int64_t rows_sent(const ExpertExchange& exchange, const ExpertParallel& ep) {
  const auto own = exchange.to[static_cast<size_t>(ep.comm->rank())];
  return std::accumulate(exchange.to.begin(), exchange.to.end(), -own);
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
  if (o.router_bias || balance_.bias_rate > 0)
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

void MoeLayer::split_experts(const ExpertParallel& ep) {
  ep_ = &ep;
  const auto place = [&](Pack* pack, int features_dim) {
    for (Parameter* p : pack->members)
      p->spec.placement = {{0, {"ep"}, experts_}, {features_dim, {"etp"}, p->spec.shape[features_dim]}};
  };
  place(gate_up_, 1);
  place(down_, 2);
}

void MoeLayer::split_rows(const SequenceRanks& ranks) {
  ranks_ = ranks;
  if (!is_split(ranks.tp)) return;
  router_->members.front()->spec.partial = {"tp"};
  if (shared_) shared_->split_features(*ranks.tp);
}

Var MoeLayer::operator()(ForwardContext& context, const Var& x) const {
  const Var own = deals_rows() ? deepflow::split_rows(context, x, *ranks_.tp) : x;
  const Choice choice = choose(context, own);
  Var routed, shared;
  if (is_split(ep_)) {
    const ExpertExchange exchange = plan_expert_exchange(context, choice.expert, experts_, *ep_);
    if (context.statistics) context.statistics->add(name_ + "/sent", static_cast<double>(rows_sent(exchange, *ep_)));
    const Var rows = rows_of_experts(context, own, exchange, *ep_);
    const ReturningRows returning(context, run_experts(context, rows, exchange.arrived.begin), exchange, *ep_);
    shared = run_shared(context, x);  // beside the transfer
    routed = returning.arrive(context, choice.weights);
  } else {
    const Dispatch dispatch = make_dispatch(context.runtime, choice.expert, experts_);
    const Var outputs = run_experts(context, gather_rows(context, own, dispatch), dispatch.begin);
    routed = combine_rows(context, outputs, choice.weights, dispatch);
    shared = run_shared(context, x);
  }
  if (deals_rows()) routed = join_rows(context, routed, *ranks_.tp);
  return shared_ ? add_outputs(context, routed, shared) : routed;
}

MoeLayer::Choice MoeLayer::choose(ForwardContext& context, const Var& x) const {
  const Var logits = router_logits(context, x, *router_);
  const Routed routed = route(context, logits, routing_, bias_);
  // Nothing is dropped outside of training: what a sequence says would depend on its end.
  const bool limited = context.training && balance_.capacity > 0;
  const bool has_losses = context.sequence_weight > 0 && context.rows.rows() > 0;
  WholeSequences sequences;
  if (limited || (has_losses && balance_.loss > 0)) sequences = whole(context, routed.expert);
  if (has_losses) add_losses(context, logits, routed, sequences);
  const Tensor kept = limited ? limit(context, sequences) : routed.expert;
  if (context.statistics) {
    count(context, routed.expert, kept);
    context.statistics->max(name_ + "/closest", -routed.closest);
  }
  return {kept, routed.weights};
}

MoeLayer::WholeSequences MoeLayer::whole(ForwardContext& context, const Tensor& expert) const {
  const int place = is_split(ranks_) ? ranks_.comm->rank() : 0;
  return {gather_whole_rows(context, expert, ranks_, name_ + ", choices"), whole_sequence(context.rows, ranks_),
          whole_rows(context.rows, ranks_, place)};
}

Tensor MoeLayer::limit(ForwardContext& context, const WholeSequences& whole) const {
  Tensor kept = limit_experts(context, whole.expert, whole.sequence, experts_, balance_.capacity);
  if (!is_split(ranks_)) return kept;
  const int64_t choices = kept.cols();
  Tensor own = context.empty({static_cast<int64_t>(whole.rows.size()), choices}, DType::kI32);
  int32_t* to = own.data<int32_t>();
  for (const int64_t row : whole.rows) to = std::copy_n(kept.data<int32_t>() + row * choices, choices, to);
  return own;
}

void MoeLayer::add_losses(ForwardContext& context, const Var& logits, const Routed& routed,
                          const WholeSequences& whole) const {
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
    const Tensor slopes = balance_slopes(context, whole.expert, whole.sequence, experts_, weight(balance_.loss));
    add(balance_loss(context, routed.scores, slopes, sequence_begins(whole.rows, slopes.rows(), whole.sequence),
                     normalise),
        "/balance_loss");
  }
  if (balance_.z_loss > 0) {
    const auto tokens = static_cast<double>(whole_sequence(context.rows, ranks_));
    add(router_z_loss(context, logits, weight(balance_.z_loss / tokens)), "/z_loss");
  }
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
Var MoeLayer::run_experts(ForwardContext& context, const Var& rows, const std::vector<int64_t>& begin) const {
  const Var wide = grouped_linear(context, rows, *gate_up_, {begin});
  return grouped_linear(context, swiglu(context, wide), *down_, {begin});
}

Var MoeLayer::run_shared(ForwardContext& context, const Var& x) const {
  return shared_ ? (*shared_)(context, x) : Var{};
}

}  // namespace deepflow
