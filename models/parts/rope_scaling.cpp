#include "models/parts/rope_scaling.h"

namespace deepflow {
namespace {

nlohmann::json parameters_of(const std::optional<RopeScaling>& scaling) {
  if (!scaling) return {{"rope_type", "default"}};
  const RopeScaling& s = *scaling;
  if (s.kind == RopeScaling::Kind::kLinear) return {{"rope_type", "linear"}, {"factor", s.factor}};
  return {{"rope_type", "llama3"},
          {"factor", s.factor},
          {"low_freq_factor", s.low_freq_factor},
          {"high_freq_factor", s.high_freq_factor},
          {"original_max_position_embeddings", s.original_max_positions}};
}

}  // namespace

void declare(OptionGroup& group, RopeScaling& s) {
  group.add("type", s.kind)
      .values({{"llama3", RopeScaling::Kind::kLlama3}, {"linear", RopeScaling::Kind::kLinear}})
      .help("llama3 slows low frequencies only, linear all of them")
      .source("Grattafiori et al. 2024; Chen et al. 2023");
  group.add("factor", s.factor).help("how much longer sequences become").at_least(1);
  group.add("low_freq_factor", s.low_freq_factor)
      .help("llama3: wavelengths above original_max_positions / this are slowed by the whole factor")
      .above(0);
  group.add("high_freq_factor", s.high_freq_factor)
      .help("llama3: wavelengths below original_max_positions / this stay as they are")
      .above(0);
  group.add("original_max_positions", s.original_max_positions)
      .help("llama3: positions of the pretraining")
      .unit("tokens")
      .at_least(1);
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
  scaling.factor = rope.number("factor", 0);
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
  } else {
    rope.fail("rope_type", "{} is not implemented; default, linear and llama3 are", type);
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
