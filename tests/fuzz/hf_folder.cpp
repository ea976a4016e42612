// A Hugging Face folder: config.json, the index and two shards, or model.safetensors; and what a tiny model takes of
// it.
#include "checkpoint/hf_folder.h"

#include "checkpoint/hf_folder_writer.h"
#include "models/registry.h"
#include "tests/fuzz/fuzz.h"

#include <nlohmann/json.hpp>

#include <map>

namespace deepflow::fuzz {
namespace {

ParameterSpec spec(const std::string& name, const Shape& shape) {
  ParameterSpec s;
  s.name = name;
  s.shape = shape;
  return s;
}

struct TinyModel {
  Runtime runtime{{.threads = 1}};
  ParameterRegistry registry;
  ForeignNames names{{{"body.fused", {"q", "k"}, true},
                      {"body.plain", {"p"}},
                      {"body.norm", {"n"}, false, -1, true},
                      {"body.expert.0", {"e"}, false, 0},
                      {"body.expert.1", {"e"}, false, 1}},
                     {{{"whole", {"e"}}}},
                     "body.",
                     {".mask"}};
  std::map<std::string, Tensor> values;

  TinyModel() {
    registry.add("qk", {spec("q", {2, 3}), spec("k", {1, 3})});
    for (const ParameterSpec& s : {spec("p", {2, 3}), spec("n", {3}), spec("e", {2, 1, 2})}) registry.add(s);
    registry.freeze({});
    for (const Parameter& p : registry.parameters()) {
      Tensor& t = values[p.spec.name] = Tensor::empty(runtime.memory(), p.local_shape, DType::kF32);
      std::fill_n(t.data<float>(), t.num_elements(), 1.0f);
    }
  }
  ForeignTensor::LocalValue value() {
    return [this](const Parameter& p) { return values.at(p.spec.name); };
  }
};

TinyModel& tiny_model() {
  static TinyModel model;
  return model;
}

constexpr const char* kIndex = "model.safetensors.index.json";

}  // namespace

void run_input(std::string_view bytes) {
  static const Folder folder;
  const std::vector<std::string> pieces = split(bytes, 4);
  folder.put("config.json", pieces[0]);
  const bool sharded = pieces.size() > 2;
  for (const char* name : {kIndex, "model.safetensors", "a", "b"}) folder.remove(name);
  if (sharded) folder.put(kIndex, pieces[1]);
  if (pieces.size() > 1) folder.put(sharded ? "a" : "model.safetensors", pieces[sharded ? 2 : 1]);
  if (pieces.size() > 3) folder.put("b", pieces[3]);
  const HfFolder opened(folder.path());
  try {
    const auto config = model_config_from_hf(opened.config(), opened.config_path());
    expect(config->num_layers() >= 1, "a model that was accepted has layers");
    expect(model_config_from_hf(config->to_hf(), "again")->to_hf() == config->to_hf(), "a configuration is kept");
  } catch (const Error&) {
    // The tensors are read all the same.
  }
  opened.load(tiny_model().runtime, tiny_model().names, tiny_model().registry, tiny_model().value());
}

std::vector<std::string> seeds(const std::string& source) {
  std::vector<std::string> all;
  const Folder folder;
  const auto write = [&](int64_t shard_bytes) {
    write_hf_folder(tiny_model().runtime, folder.path(), {{"model_type", "tiny"}}, tiny_model().names,
                    tiny_model().registry, tiny_model().value(), {.dtype = DType::kF32, .shard_bytes = shard_bytes});
  };
  write(1 << 20);
  const std::string config = content_of(folder / "config.json"), whole = content_of(folder / "model.safetensors");
  all.push_back(join({config, whole}));
  all.push_back(join({config, R"({"metadata": {}, "weight_map": {"body.fused": "a"}})", whole, whole}));
  for (const char* family : {"llama", "llama_scaled", "gpt2", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma2",
                             "deepseek_v2", "deepseek_v3", "deepseek_v3_mtp"})
    all.push_back(join({content_of(source + "/tests/parity/goldens/" + family + "/config.json"), whole}));
  return all;
}

}  // namespace deepflow::fuzz
