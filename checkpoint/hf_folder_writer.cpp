#include "checkpoint/hf_folder_writer.h"

#include "checkpoint/file_dtype.h"
#include "checkpoint/safetensors_writer.h"
#include "core/error.h"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace deepflow {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Shard {
  std::string file;
  std::vector<const ForeignTensor*> tensors;
  std::vector<SafetensorsItem> items;
  int64_t bytes = 0;
};

std::vector<Shard> plan_shards(const std::vector<ForeignTensor>& tensors, const HfFolderOptions& options) {
  std::vector<Shard> shards(1);
  for (const ForeignTensor& tensor : tensors) {
    const Parameter& first = *tensor.parameters().front();
    SafetensorsItem item{tensor.name(), file_dtype(first, options.dtype, options.dtype_of), tensor.shape()};
    const int64_t bytes = item.num_bytes();
    if (shards.back().bytes > 0 && shards.back().bytes + bytes > options.shard_bytes) shards.emplace_back();
    shards.back().bytes += bytes;
    shards.back().tensors.push_back(&tensor);
    shards.back().items.push_back(std::move(item));
  }
  for (size_t i = 0; i < shards.size(); ++i)
    shards[i].file = shards.size() == 1 ? "model.safetensors"
                                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  return shards;
}

void write_shard(Runtime& runtime, const std::string& dir, const Shard& shard, const ForeignTensor::WholeValue& value) {
  SafetensorsWriter writer(dir + "/" + shard.file, shard.items, {{"format", "pt"}});
  for (size_t i = 0; i < shard.tensors.size(); ++i) {
    const Tensor content = in_dtype(runtime, shard.tensors[i]->assemble(runtime, value), shard.items[i].dtype);
    writer.append(content.raw(), content.num_bytes());
  }
  writer.commit();
}

void write_json(const std::string& path, const json& value) { write_file_durably(path, value.dump(2) + "\n"); }

void write_index(const std::string& dir, const std::vector<Shard>& shards) {
  json map = json::object();
  int64_t total = 0;
  for (const Shard& shard : shards) {
    total += shard.bytes;
    for (const SafetensorsItem& item : shard.items) map[item.name] = shard.file;
  }
  write_json(dir + "/model.safetensors.index.json", {{"metadata", {{"total_size", total}}}, {"weight_map", map}});
}

const char* torch_name(DType dtype) {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kBF16 ? "bfloat16" : "float16";
}

// Our own files of an earlier model: config.json first, so that what follows is no model any more.
void remove_old_model(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) throw StorageError("{}: cannot create the folder: {}", dir, error.message());
  fs::remove(dir + "/config.json", error);
  std::vector<fs::path> old;
  for (const auto& file : fs::directory_iterator(dir, error)) {
    const std::string name = file.path().filename().string();
    const bool shard = name.rfind("model-", 0) == 0 && file.path().extension() == ".safetensors";
    if (shard || name == "model.safetensors" || name == "model.safetensors.index.json") old.push_back(file.path());
  }
  for (const fs::path& path : old) fs::remove(path, error);
}

}  // namespace

void write_hf_folder(Runtime& runtime, const std::string& dir, json config, const ForeignNames& names,
                     ParameterRegistry& registry, const ForeignTensor::WholeValue& whole_value,
                     const HfFolderOptions& options) {
  const ForeignTensor::WholeValue value = ForeignTensor::remembering(whole_value);
  std::vector<ForeignTensor> tensors;
  for (const NameMapEntry& entry : names.map) tensors.emplace_back(entry, registry);
  if (!options.writes) {
    for (const ForeignTensor& tensor : tensors) tensor.take_part(value);
    return;
  }
  const std::vector<Shard> shards = plan_shards(tensors, options);
  remove_old_model(dir);
  for (const Shard& shard : shards) write_shard(runtime, dir, shard, value);
  if (shards.size() > 1) write_index(dir, shards);

  json generation = {{"_from_model_config", true}};
  if (options.end_of_text) {
    config["bos_token_id"] = config["eos_token_id"] = *options.end_of_text;
    generation["bos_token_id"] = generation["eos_token_id"] = *options.end_of_text;
  }
  write_json(dir + "/generation_config.json", generation);
  // transformers 4 calls it torch_dtype, 5 dtype.
  config["dtype"] = config["torch_dtype"] = torch_name(options.dtype);
  write_json(dir + "/config.json", config);
}

}  // namespace deepflow
