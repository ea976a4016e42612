#pragma once

#include "checkpoint/foreign_tensor.h"
#include "checkpoint/safetensors.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// A Hugging Face model folder open for reading: config.json and model.safetensors, or the shards that
// model.safetensors.index.json names. Every rank may open it. Throws StorageError or DataError.
class HfFolder {
 public:
  explicit HfFolder(std::string dir);
  ~HfFolder();

  const std::string& dir() const { return dir_; }
  const nlohmann::json& config() const { return *config_; }
  std::string config_path() const { return dir_ + "/config.json"; }

  // Whether it has the tensor, under this name or without names.prefix.
  bool holds(const ForeignNames& names, const std::string& external) const;
  DType dtype() const;  // of most of its elements, among f32, bf16 and f16; f32 where there are none

  // A tensor of the model beside that of the folder.
  struct Match {
    ForeignTensor tensor;
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
  };
  // What tensors of optional entries may be missing: all, or those of buffers alone (a router's bias).
  enum class Lacking : uint8_t { kOptional, kBuffers };
  // Every tensor of the model, or one DataError that lists all missing, unexpected and misshapen ones.
  std::vector<Match> match(const ForeignNames& names, ParameterRegistry& registry, Lacking lacking) const;

  // Fills the local part of every parameter of the registry (frozen): `value` gives its master, f32 [local shape],
  // contiguous; the caller announces the write to its store. Sources are f32, bf16 or f16; names may lack
  // names.prefix, and tensors of optional entries may be missing. Before a byte is read, one DataError lists all
  // missing, unexpected and misshapen tensors.
  void load(Runtime& runtime, const ForeignNames& names, ParameterRegistry& registry,
            const ForeignTensor::LocalValue& value) const;

 private:
  using Found = std::map<std::string, std::pair<const SafetensorsFile*, const SafetensorsEntry*>>;
  void open_shards();
  Found find_tensors() const;
  // Of the ways in which a model's tensors are named the one that most of them are.
  static const NameMap& choose_map(const Found& found, const ForeignNames& names);
  static Found::const_iterator find(const Found& found, const ForeignNames& names, const std::string& external);

  std::string dir_;
  std::unique_ptr<nlohmann::json> config_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
};

}  // namespace deepflow
