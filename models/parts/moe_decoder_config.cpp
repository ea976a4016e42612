#include "models/parts/moe_decoder_config.h"

#include "core/option.h"
#include "models/extents.h"
#include "models/hf_config.h"
#include "models/parts/decoder.h"

namespace deepflow {

void MoeDecoderConfig::declare(OptionGroup& group) {
  DecoderConfig::declare(group);
  group.add("experts", experts).help("experts of every layer that has some").range(1, kMostExperts);
  group.add("expert_choices", expert_choices).help("experts that a token goes to").range(1, kMostExpertChoices);
  deepflow::declare(group, balance);
}

void MoeDecoderConfig::declare_ffn(OptionGroup& group) {
  group.add("ffn", ffn).help("columns inside each expert; 0: 7/2 of width, rounded up to 64").range(0, kLargestExtent);
}

void MoeDecoderConfig::fill_in(int64_t vocabulary_size, int64_t sequence) {
  constexpr int64_t kFfnMultiple = 64;
  if (ffn == 0) ffn = (width * 7 / 2 + kFfnMultiple - 1) / kFfnMultiple * kFfnMultiple;
  DecoderConfig::fill_in(vocabulary_size, sequence);
}

std::optional<ModelConfig::Problem> MoeDecoderConfig::problem() const {
  return first_problem(DecoderConfig::problem(), expert_problem(experts, expert_choices));
}

void MoeDecoderConfig::read_hf_experts(const HfConfig& config, const HfExpertDefaults& d) {
  experts = config.positive(d.experts_key, d.experts);
  expert_choices = config.positive("num_experts_per_tok", d.choices);
  balance.bias_rate = config.number("router_bias_rate", 0);
  if (!(balance.bias_rate >= 0)) config.fail("router_bias_rate", "is below 0");
  check_hf_activation(config, "hidden_act", "silu", "swish");
}

// transformers takes the balance loss of all layers at once, and sums the choices' shares where ours is their mean. It
// knows of no bias.
nlohmann::json MoeDecoderConfig::hf_experts(const std::string& experts_key) const {
  nlohmann::json json = {
      {experts_key, experts},
      {"num_experts_per_tok", expert_choices},
      {"hidden_act", "silu"},
      {"sliding_window", nullptr},
      {"output_router_logits", false},
      {"router_aux_loss_coef", balance.loss * static_cast<double>(layers) / static_cast<double>(expert_choices)}};
  if (balance.bias_rate > 0) json["router_bias_rate"] = balance.bias_rate;
  return json;
}

MoeOptions moe_options(const MoeDecoderConfig& c) {
  const MlpOptions mlp = mlp_options(c);
  MoeOptions o;
  o.width = c.width;
  o.experts = c.experts;
  o.ffn = c.ffn;
  o.routing.choices = c.expert_choices;
  o.balance = c.balance;
  o.stddev = mlp.stddev;
  o.out_stddev = mlp.out_stddev;
  return o;
}

}  // namespace deepflow
