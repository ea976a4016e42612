#pragma once

#include "checkpoint/foreign_tensor.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// Names of the format in docs/formats/hdf5_model.md, shared by reader and writer.
namespace hdf5_model_format {
inline constexpr const char* kMagic = "deepflow.model";
inline constexpr int64_t kVersion = 1;
inline constexpr const char* kGroup = "parameters";
inline constexpr int64_t kChunkElements = int64_t{1} << 18;  // of a data set; each chunk has a checksum

// "layers.3.attention.q.weight" -> "layers/3/attention/q/weight"
std::string dataset_name(const std::string& parameter);
}  // namespace hdf5_model_format

// An HDF5 file with the parameters of a model, open for reading. Content is read by ranges, a few MB at a time; every
// byte that is read has passed its checksum. Trusts nothing: errors are StorageErrors and DataErrors of one line that
// names the file. Every rank may open it.
class Hdf5Model {
 public:
  explicit Hdf5Model(std::string path);
  ~Hdf5Model();
  Hdf5Model(const Hdf5Model&) = delete;
  Hdf5Model& operator=(const Hdf5Model&) = delete;

  const std::string& path() const { return path_; }
  const nlohmann::json& config() const { return *config_; }  // the model's, as in a config.json

  // Throws one DataError that lists all missing, unexpected and misshapen parameters.
  void check(const ParameterRegistry& registry) const;

  // Fills the local part of every parameter of the registry (frozen), after check(): `value` gives its master, f32
  // [local shape], contiguous; the caller announces the write to its store.
  void load(Runtime& runtime, ParameterRegistry& registry, const ForeignTensor::LocalValue& value) const;

  // f32 [spec.shape] of a parameter that passed check(): a ForeignTensor::WholeValue.
  Tensor whole(Runtime& runtime, const Parameter& p) const;
  DType dtype(const Parameter& p) const;  // that it has in the file

 private:
  class File;
  struct Entry {
    std::string dtype_name;  // "f32"; of a data set that is none of ours "?"
    std::vector<int64_t> shape;
  };
  void read_box(Runtime& runtime, const Parameter& p, const Box& box, const Tensor& into) const;

  std::string path_;
  std::unique_ptr<File> file_;
  std::unique_ptr<nlohmann::json> config_;
  std::map<std::string, Entry> entries_;  // by the parameter's name
};

}  // namespace deepflow
