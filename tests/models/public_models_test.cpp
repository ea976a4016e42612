// The configurations of published models that lie beside their families.

#include "core/parameter_registry.h"
#include "models/registry.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <set>
#include <string>

namespace deepflow {
namespace {

struct PublicModel {
  const char* file;
  int64_t parameters;  // what transformers counts
};
const PublicModel kModels[] = {
    {"qwen2/qwen2_1.5b.json", 1543714304},
    {"qwen2/qwen2_7b.json", 7615616512},
    {"qwen3/qwen3_0.6b.json", 596049920},
    {"qwen3/qwen3_8b.json", 8190735360},
    {"gemma2/gemma2_2b.json", 2614341888},
    {"gemma2/gemma2_9b.json", 9241705984},
    {"deepseek_v2/deepseek_v2_lite.json", 15706484224},
    {"deepseek_v2/deepseek_v2.json", 235741434880},
};

nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  return nlohmann::json::parse(file);
}

TEST(PublicModels, HaveTheParametersThatWerePublished) {
  for (const PublicModel& m : kModels) {
    const std::string path = std::string(DEEPFLOW_MODELS) + "/" + m.file;
    Runtime runtime{{.threads = 1}};
    ParameterRegistry registry;
    const auto config = model_config_from_hf(read_json(path), path);
    const auto model = config->build(runtime, registry, Recompute::kNone);
    EXPECT_EQ(registry.num_elements(), m.parameters) << m.file;
    EXPECT_EQ(model->shape().layers, config->num_layers());
  }
}

// What says nothing of the architecture, or is spelt otherwise.
const std::set<std::string> kOthers = {"torch_dtype",       "use_cache",    "attention_dropout", "cache_implementation",
                                       "bos_token_id",      "eos_token_id", "pad_token_id",      "sliding_window",
                                       "max_window_layers", "rms_norm_eps"};

// With the name that older files have for the kind.
nlohmann::json stretching(nlohmann::json rope_scaling) {
  if (rope_scaling.contains("rope_type")) rope_scaling["type"] = rope_scaling["rope_type"];
  rope_scaling.erase("rope_type");
  return rope_scaling;
}

TEST(PublicModels, AreWrittenAsTheyWereRead) {
  for (const PublicModel& m : kModels) {
    const std::string path = std::string(DEEPFLOW_MODELS) + "/" + m.file;
    const nlohmann::json json = read_json(path), written = model_config_from_hf(json, path)->to_hf();
    for (const auto& [key, value] : json.items()) {
      if (kOthers.count(key) > 0) continue;
      if (key == "rope_scaling" && value.is_object())
        EXPECT_EQ(stretching(written.at(key)), stretching(value)) << m.file;
      else if (value.is_number_float())
        EXPECT_FLOAT_EQ(written.at(key).get<float>(), value.get<float>()) << m.file << " " << key;
      else
        EXPECT_EQ(written.at(key), value) << m.file << " " << key;
    }
    EXPECT_EQ(model_config_from_hf(written, "written")->to_hf(), written) << m.file;
  }
}

}  // namespace
}  // namespace deepflow
