#include "models/parts/rope_scaling.h"

namespace deepflow {
namespace {

nlohmann::json yarn_parameters(const RopeScaling& s) {
  nlohmann::json parameters = {{"rope_type", "yarn"},
                               {"factor", s.factor},
                               {"original_max_position_embeddings", s.original_max_positions},
                               {"beta_fast", s.beta_fast},
                               {"beta_slow", s.beta_slow}};
  if (s.mscale > 0) parameters["mscale"] = s.mscale;
  if (s.mscale_all_dim > 0) parameters["mscale_all_dim"] = s.mscale_all_dim;
  if (s.attention_factor > 0) parameters["attention_factor"] = s.attention_factor;
  return parameters;
}

nlohmann::json parameters_of(const std::optional<RopeScaling>& scaling) {
  if (!scaling) return {{"rope_type", "default"}};
  const RopeScaling& s = *scaling;
  if (s.kind == RopeScaling::Kind::kLinear) return {{"rope_type", "linear"}, {"factor", s.factor}};
  if (s.kind == RopeScaling::Kind::kYarn) return yarn_parameters(s);
  return {{"rope_type", "llama3"},
          {"factor", s.factor},
          {"low_freq_factor", s.low_freq_factor},
          {"high_freq_factor", s.high_freq_factor},
          {"original_max_position_embeddings", s.original_max_positions}};
}

// Without a factor it is how much longer the model's positions are (DeepSeek-V3).
void read_yarn(const HfConfig& rope, int64_t max_positions, RopeScaling& scaling) {
  scaling.kind = RopeScaling::Kind::kYarn;
  scaling.original_max_positions = rope.positive("original_max_position_embeddings", max_positions);
  scaling.factor = static_cast<double>(max_positions) / static_cast<double>(scaling.original_max_positions);
  scaling.beta_fast = rope.number("beta_fast", 32);
  scaling.beta_slow = rope.number("beta_slow", 1);
  if (!(scaling.beta_slow > 0) || !(scaling.beta_fast > scaling.beta_slow))
    rope.fail("beta_fast", "needs to be above beta_slow, and both above 0");
  const auto at_least_0 = [&](const char* key) {
    const double value = rope.number(key, 0);
    if (value < 0) rope.fail(key, "needs to be at least 0, got {}", value);
    return value;
  };
  scaling.mscale = at_least_0("mscale");
  scaling.mscale_all_dim = at_least_0("mscale_all_dim");
  scaling.attention_factor = at_least_0("attention_factor");
  if (!rope.boolean("truncate", true)) rope.fail("truncate", "false is not implemented; true is");
}

}  // namespace

void declare(OptionGroup& group, RopeScaling& s) {
  group.add("type", s.kind)
      .values({{"llama3", RopeScaling::Kind::kLlama3},
               {"linear", RopeScaling::Kind::kLinear},
               {"yarn", RopeScaling::Kind::kYarn}})
      .help("llama3 and yarn slow low frequencies only, linear all of them; yarn also sharpens attention")
      .source("Grattafiori et al. 2024; Chen et al. 2023; Peng et al. 2023");
  group.add("factor", s.factor).help("how much longer sequences become").at_least(1);
  group.add("low_freq_factor", s.low_freq_factor)
      .help("llama3: wavelengths above original_max_positions / this are slowed by the whole factor")
      .above(0);
  group.add("high_freq_factor", s.high_freq_factor)
      .help("llama3: wavelengths below original_max_positions / this stay as they are")
      .above(0);
  group.add("original_max_positions", s.original_max_positions)
      .help("llama3, yarn: positions of the pretraining")
      .unit("tokens")
      .at_least(1);
  group.add("beta_fast", s.beta_fast)
      .help("yarn: frequencies that turn more often in original_max_positions stay as they are")
      .above(0);
  group.add("beta_slow", s.beta_slow)
      .help("yarn: frequencies that turn less often in original_max_positions are slowed by the whole factor")
      .above(0);
  group.add("mscale", s.mscale)
      .help("yarn: with mscale_all_dim, how much attention is sharpened; 0: not given")
      .at_least(0)
      .source("DeepSeek-V2 2024, section 3.1.4");
  group.add("mscale_all_dim", s.mscale_all_dim).help("yarn: divides mscale's part; 0: not given").at_least(0);
  group.add("attention_factor", s.attention_factor)
      .help("yarn: what cos and sin are multiplied with; 0: follows from factor and mscale")
      .at_least(0);
}

void stretch(RopeOptions& options, const RopeScaling& s) {
  switch (s.kind) {
    case RopeScaling::Kind::kLinear:
      options.linear_factor = s.factor;
      return;
    case RopeScaling::Kind::kLlama3:
      options.llama3 = Llama3RopeScaling{s.factor, s.low_freq_factor, s.high_freq_factor, s.original_max_positions};
      return;
    case RopeScaling::Kind::kYarn:
      options.yarn = YarnRopeScaling{s.factor, s.original_max_positions, s.beta_fast,       s.beta_slow,
                                     s.mscale, s.mscale_all_dim,         s.attention_factor};
  }
}

HfRope read_hf_rope(const HfConfig& config, int64_t max_positions, double theta) {
  HfRope out{config.number("rope_theta", theta), std::nullopt};
  const std::string key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.has(key)) return out;
  const HfConfig rope = config.object(key);
  out.theta = rope.number("rope_theta", out.theta);
  const std::string type = rope.text("rope_type", rope.text("type", "default"));
  if (type == "default") return out;
  RopeScaling scaling;
  if (type == "yarn") read_yarn(rope, max_positions, scaling);
  scaling.factor = rope.number("factor", type == "yarn" ? scaling.factor : 0);
  if (!(scaling.factor >= 1)) rope.fail("factor", "needs to be at least 1, got {}", scaling.factor);
  if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.low_freq_factor = rope.number("low_freq_factor", 1);
    scaling.high_freq_factor = rope.number("high_freq_factor", 4);
    scaling.original_max_positions = rope.positive("original_max_position_embeddings", max_positions);
    if (!(scaling.low_freq_factor > 0) || !(scaling.high_freq_factor > scaling.low_freq_factor))
      rope.fail("high_freq_factor", "needs to be above low_freq_factor, and both above 0");
  } else if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
  } else if (type != "yarn") {
    rope.fail("rope_type", "{} is not implemented; default, linear, llama3 and yarn are", type);
  }
  out.scaling = scaling;
  return out;
}

nlohmann::json hf_rope(const HfRope& rope) {
  nlohmann::json parameters = parameters_of(rope.scaling), scaling;
  if (rope.scaling) scaling = parameters;
  parameters["rope_theta"] = rope.theta;
  return {{"rope_parameters", std::move(parameters)}, {"rope_theta", rope.theta}, {"rope_scaling", std::move(scaling)}};
}

}  // namespace deepflow
