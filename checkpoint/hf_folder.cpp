#include "checkpoint/hf_folder.h"

#include "checkpoint/json_file.h"
#include "checkpoint/mismatch.h"
#include "checkpoint/printable.h"
#include "core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

namespace deepflow {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The shards' names, each once. They must be plain names of files in the folder.
std::set<std::string> shard_names(const json& index, const std::string& path) {
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw DataError("{}: weight_map is missing", path);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (file.empty() || file.find('/') != std::string::npos || file.find('\0') != std::string::npos || file == "..")
      throw DataError("{}: {} is not in a file of the folder but in \"{}\"", path, printable(tensor), printable(file));
    shards.insert(file);
  }
  return shards;
}

bool ends_with_any(const std::string& name, const std::vector<std::string>& ends) {
  return std::any_of(ends.begin(), ends.end(), [&](const std::string& end) {
    return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  });
}

bool is_float(const SafetensorsEntry& entry) {
  const auto dtype = entry.dtype();
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

bool is_buffer(const NameMapEntry& entry, ParameterRegistry& registry) {
  return registry.find(entry.logical.front())->spec.role == Role::kBuffer;
}

}  // namespace

HfFolder::HfFolder(std::string dir) : dir_(std::move(dir)) {
  std::error_code error;
  if (!fs::is_directory(dir_, error)) throw StorageError("{}: there is no such folder", dir_);
  config_ = std::make_unique<json>(read_json_file(config_path()));
  open_shards();
}

HfFolder::~HfFolder() = default;

void HfFolder::open_shards() {
  const std::string single = dir_ + "/model.safetensors", index = single + ".index.json";
  std::error_code error;
  if (fs::exists(index, error)) {
    const json content = read_json_file(index);
    std::map<std::string, const SafetensorsFile*> by_name;
    for (const std::string& shard : shard_names(content, index)) {
      files_.push_back(std::make_unique<SafetensorsFile>(dir_ + "/" + shard));
      by_name[shard] = files_.back().get();
    }
    for (const auto& [tensor, shard] : content["weight_map"].items())
      if (!by_name.at(shard.get<std::string>())->find(tensor))
        throw DataError("{}: {} should be in {}, which does not hold it", index, printable(tensor),
                        printable(shard.get<std::string>()));
  } else if (fs::exists(single, error)) {
    files_.push_back(std::make_unique<SafetensorsFile>(single));
  } else {
    throw DataError("{}: there is no model.safetensors and no model.safetensors.index.json in it", dir_);
  }
}

HfFolder::Found HfFolder::find_tensors() const {
  Found found;
  for (const auto& file : files_)
    for (const SafetensorsEntry& entry : file->entries())
      if (!found.emplace(entry.name, std::pair(file.get(), &entry)).second)
        throw DataError("{}: {} is in two of its files", dir_, printable(entry.name));
  return found;
}

const NameMap& HfFolder::choose_map(const Found& found, const ForeignNames& names) {
  const auto missing = [&](const NameMap& map) {
    return std::count_if(map.begin(), map.end(), [&](const NameMapEntry& wanted) {
      return !wanted.optional && find(found, names, wanted.external) == found.end();
    });
  };
  const NameMap* best = &names.map;
  auto fewest = missing(names.map);
  for (const NameMap& other : names.also_read) {
    const auto here = missing(other);
    if (here < fewest) best = &other;
    fewest = std::min(fewest, here);
  }
  return *best;
}

HfFolder::Found::const_iterator HfFolder::find(const Found& found, const ForeignNames& names,
                                               const std::string& external) {
  const auto it = found.find(external);
  if (it != found.end() || external.rfind(names.prefix, 0) != 0) return it;
  return found.find(external.substr(names.prefix.size()));
}

bool HfFolder::holds(const ForeignNames& names, const std::string& external) const {
  const std::string bare = external.starts_with(names.prefix) ? external.substr(names.prefix.size()) : external;
  return std::any_of(files_.begin(), files_.end(),
                     [&](const auto& file) { return file->find(external) || file->find(bare); });
}

DType HfFolder::dtype() const {
  std::map<DType, int64_t> elements;
  for (const auto& file : files_)
    for (const SafetensorsEntry& entry : file->entries())
      if (is_float(entry))
        elements[*entry.dtype()] += (entry.end - entry.begin) / static_cast<int64_t>(size_of(*entry.dtype()));
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements.end() ? DType::kF32 : most->first;
}

std::vector<HfFolder::Match> HfFolder::match(const ForeignNames& names, ParameterRegistry& registry,
                                             Lacking lacking) const {
  Found found = find_tensors();
  Mismatch mismatch;
  std::vector<Match> matches;
  for (const NameMapEntry& wanted : choose_map(found, names)) {
    const auto it = find(found, names, wanted.external);
    if (it == found.end()) {
      const bool may_lack = wanted.optional && (lacking == Lacking::kOptional || is_buffer(wanted, registry));
      if (!may_lack) mismatch.missing.push_back(wanted.external);
      continue;
    }
    const auto [file, entry] = it->second;
    found.erase(it);
    Match candidate{ForeignTensor(wanted, registry), file, entry};
    if (!is_float(*entry) || entry->shape != candidate.tensor.shape())
      mismatch.misshapen.push_back(fmt::format("{} (the model has {}, the folder {} {})", printable(entry->name),
                                               shape_text(candidate.tensor.shape()), entry->dtype_name,
                                               shape_text(entry->shape)));
    matches.push_back(std::move(candidate));
  }
  for (const auto& left : found)
    if (!ends_with_any(left.first, names.ignored)) mismatch.unexpected.push_back(left.first);
  mismatch.throw_if_any(dir_);
  return matches;
}

void HfFolder::load(Runtime& runtime, const ForeignNames& names, ParameterRegistry& registry,
                    const ForeignTensor::LocalValue& value) const {
  for (const Match& m : match(names, registry, Lacking::kOptional)) m.tensor.read(runtime, *m.file, *m.entry, value);
}

}  // namespace deepflow
