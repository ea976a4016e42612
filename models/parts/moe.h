#pragma once

#include "kernels/ops/expert_rows.h"
#include "kernels/ops/router.h"
#include "models/parts/mlp.h"
#include "parallel/expert_parallel.h"
#include "parallel/sequence_rows.h"

#include <optional>
#include <string>

namespace deepflow {

class OptionGroup;

// How the load of the experts is kept even while they train; no part of the architecture.
struct ExpertBalance {
  double loss = 0;       // kernels/ops/router_loss.h, balance_loss: coefficient, of every layer
  double z_loss = 0;     // likewise
  double bias_rate = 0;  // 0: no bias
  double capacity = 0;   // of an expert in each sequence, over its even share; 0: nothing is dropped
};
// Keys of the model's section.
void declare(OptionGroup& group, ExpertBalance& balance);

struct MoeOptions {
  int64_t width = 0;
  int64_t experts = 0, ffn = 0;  // of each expert
  int64_t shared_ffn = 0;        // of the expert that all tokens go to; 0: there is none
  Routing routing;
  bool router_bias = false;  // there is one even where nothing moves it
  ExpertBalance balance;
  float stddev = 0.02f, out_stddev = 0.02f;
};

// A layer of experts as those see it who watch and balance it.
struct ExpertLayer {
  std::string name;  // of the layer, in front of its statistics
  int64_t experts = 0;
  const Pack* bias = nullptr;  // of its router, moved by bias_rate against the load after every step; may be null
  double bias_rate = 0;
};

// Mixture of experts: every token goes to a few of many SwiGLU MLPs, whose outputs are summed with the router's weights
// (Shazeer et al. 2017), and to a shared one where there is one (DeepSeekMoE, Dai et al. 2024). Parameters:
// NAME.router.weight [E, D], with a bias NAME.router.bias [E] (Role::kBuffer), NAME.gate.weight and NAME.up.weight
// [E, F, D] (one pack), NAME.down.weight [E, D, F], NAME.shared.
//
// In training its losses are roots on the context's tape. With context.statistics every pass adds NAME/load, choices
// that fell on each expert, dropped ones included, NAME/dropped, the largest -NAME/closest (closest_choice.h), rows
// that went to experts of other ranks, NAME/sent, and the losses NAME/balance_loss and NAME/z_loss, as the total loss
// counts them.
class MoeLayer {
 public:
  MoeLayer(ParameterRegistry& registry, const std::string& name, const MoeOptions& options);

  Var operator()(ForwardContext& context, const Var& x) const;  // x, result: [M, width] compute dtype

  // Each rank has some of the experts, or a part of the matrices of each.
  void split_experts(const ExpertParallel& ep);
  // Rows of a sequence are on several ranks, which decide together what its experts can take. Those of tp have all rows
  // or their dealt ones; either way each sends its dealt ones to the experts. The shared expert is split over them.
  void split_rows(const SequenceRanks& ranks);

  ExpertLayer description() const;

 private:
  struct Choice {
    Tensor expert;  // i32 [M, choices], -1: dropped
    Var weights;    // f32 [M, choices]
  };
  // The choices of all rows of whole sequences, and which of those rows are this rank's.
  struct WholeSequences {
    Tensor expert;
    int64_t sequence = 0;
    std::vector<int64_t> rows;
  };
  bool deals_rows() const { return is_split(ranks_.tp) && !ranks_.tp->sequence; }
  Choice choose(ForwardContext& context, const Var& x) const;
  WholeSequences whole(ForwardContext& context, const Tensor& expert) const;
  Tensor limit(ForwardContext& context, const WholeSequences& whole) const;
  void add_losses(ForwardContext& context, const Var& logits, const Routed& routed, const WholeSequences& whole) const;
  void count(ForwardContext& context, const Tensor& routed, const Tensor& kept) const;
  Var run_experts(ForwardContext& context, const Var& rows, const std::vector<int64_t>& begin) const;
  Var run_shared(ForwardContext& context, const Var& x) const;

  std::string name_;
  int64_t experts_;
  Routing routing_;
  ExpertBalance balance_;
  Pack* router_;
  Pack* bias_ = nullptr;
  Pack *gate_up_, *down_;
  std::optional<SwigluMlp> shared_;
  const ExpertParallel* ep_ = nullptr;
  SequenceRanks ranks_;
};

}  // namespace deepflow
