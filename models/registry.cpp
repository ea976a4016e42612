#include "models/registry.h"

#include "models/deepseek_v2/config.h"
#include "models/deepseek_v3/config.h"
#include "models/gemma2/config.h"
#include "models/gpt2/config.h"
#include "models/hf_config.h"
#include "models/llama/config.h"
#include "models/mixtral/config.h"
#include "models/qwen2/config.h"
#include "models/qwen3/config.h"
#include "models/qwen3_moe/config.h"

namespace deepflow {

std::vector<std::unique_ptr<ModelConfig>> make_model_configs() {
  std::vector<std::unique_ptr<ModelConfig>> configs;
  configs.push_back(std::make_unique<LlamaConfig>());
  configs.push_back(std::make_unique<Gpt2Config>());
  configs.push_back(std::make_unique<MixtralConfig>());
  configs.push_back(std::make_unique<Qwen2Config>());
  configs.push_back(std::make_unique<Qwen3Config>());
  configs.push_back(std::make_unique<Gemma2Config>());
  configs.push_back(std::make_unique<Qwen3MoeConfig>());
  configs.push_back(std::make_unique<DeepseekV2Config>());
  configs.push_back(std::make_unique<DeepseekV3Config>());
  return configs;
}

std::unique_ptr<ModelConfig> model_config_from_hf(const nlohmann::json& json, const std::string& where) {
  const HfConfig config(json, where);
  const std::string type = config.text("model_type", "");
  std::string known;
  for (std::unique_ptr<ModelConfig>& candidate : make_model_configs()) {
    if (candidate->family() == type) {
      candidate->read_hf(config);
      if (const auto problem = candidate->problem()) throw DataError("{}: {} {}", where, problem->key, problem->text);
      return std::move(candidate);
    }
    known += (known.empty() ? "" : ", ") + candidate->family();
  }
  config.fail("model_type", "\"{}\" is no family that is implemented; {} are", type, known);
}

}  // namespace deepflow
