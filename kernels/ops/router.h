#pragma once

#include "core/context.h"

namespace deepflow {

enum class RouterScore : uint8_t {
  kSoftmax,  // over all experts (Shazeer et al. 2017, Fedus et al. 2021)
  kSigmoid,  // of each expert for itself (DeepSeek-V3, section 2.1.2)
};

struct Routing {
  RouterScore score = RouterScore::kSoftmax;
  int64_t choices = 2;                 // experts of a token
  int64_t groups = 1, top_groups = 1;  // choices come from the top groups only (DeepSeek-V2, section 2.1.3)
  bool normalise = true;               // weights of a token sum to `scale`
  float scale = 1;
  int64_t group_best = 2;  // what a group is worth: the sum of its that many best experts
};
// The largest choices and groups there may be; groups are equal, and the top ones hold `choices` experts.
constexpr int64_t kMostExpertChoices = 64, kMostExpertGroups = 64;

// Logits f32 [M, E] = x W^T, multiplied in f32 whatever x is. x [M, D] compute dtype; weight pack [E, D], read as its
// master.
Var router_logits(ForwardContext& context, const Var& x, Pack& weight);

struct Routed {
  Var scores;          // f32 [M, E]
  Tensor expert;       // i32 [M, choices], the best first
  Var weights;         // f32 [M, choices]: the score of each choice, normalised and scaled
  double closest = 0;  // with context.statistics: kernels/ops/closest_choice.h
};

// Which experts a token goes to, and with what weight. A group's value is the sum of its best experts (group_best),
// an expert's its score plus its bias; equal ones go by rising index. `bias`, a vector [E] or null, has no part in the
// weights; its gradient is zero. With scores that are NaN experts are in range and different all the same.
Routed route(ForwardContext& context, const Var& logits, const Routing& routing, Pack* bias);

// At most `capacity` = ceil(factor * tokens * choices / experts) slots of an expert in each sequence: expert i32
// [sequences * sequence, choices] of whole sequences, with -1 where a slot is dropped. First choices of the whole
// sequence come before second ones, and so on; among them earlier tokens come first (Lepikhin et al. 2020, section 3.2;
// Fedus et al. 2021). Not differentiable.
Tensor limit_experts(ForwardContext& context, const Tensor& expert, int64_t sequence, int64_t num_experts,
                     double factor);
int64_t expert_capacity(double factor, int64_t tokens, int64_t choices, int64_t num_experts);

}  // namespace deepflow
