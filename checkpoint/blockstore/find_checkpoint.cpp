#include "checkpoint/blockstore/find_checkpoint.h"

#include "checkpoint/blockstore/block_index.h"
#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/manifest.h"
#include "core/error.h"

#include <algorithm>
#include <filesystem>

namespace deepflow {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

int64_t bytes_in(const std::string& dir) {
  int64_t sum = 0;
  std::error_code error, of_file;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error))
    if (const auto bytes = it->file_size(of_file); !of_file) sum += static_cast<int64_t>(bytes);
  return sum;
}

std::string kind_of_leftover(const std::string& name) {
  if (name.ends_with(".writing")) return "unfinished";
  if (name.find(".damaged") != std::string::npos) return "damaged, set aside";
  return is_step_folder_name(name) ? "removed, but later ones refer to its blocks" : "";
}

}  // namespace

bool is_checkpoint(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path + "/" + kCommitName, error);
}

std::string find_checkpoint_folder(const std::string& path) {
  if (!is_folder(path)) throw ConfigError("{}: is no folder; name a folder of checkpoints (checkpoint.dir)", path);
  const std::string below = path + "/checkpoints";
  return list_checkpoints(path).empty() && is_folder(below) ? below : path;
}

std::string find_checkpoint(const std::string& path) {
  if (is_checkpoint(path)) return path;
  if (!is_folder(path)) throw ConfigError("{}: is no folder; name a checkpoint, such as DIR/step-00000200", path);
  if (fs::exists(path + "/" + kManifestName) || fs::exists(path + "/" + data_file_name(0)))
    throw ConfigError("{}: has no commit record, so it is no whole checkpoint; see: deepflow ckpt list {}", path,
                      fs::path(path).parent_path().string());
  const std::vector<FoundCheckpoint> all = list_checkpoints(find_checkpoint_folder(path));
  if (all.empty()) throw ConfigError("{}: holds no checkpoint; name one, such as DIR/step-00000200", path);
  return all.back().path;
}

std::vector<Leftover> list_leftovers(const std::string& dir) {
  std::vector<Leftover> found;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("step-") || (is_step_folder_name(name) && is_checkpoint(it->path().string()))) continue;
    const std::string what = kind_of_leftover(name);
    if (!what.empty()) found.push_back({name, what, bytes_in(it->path().string())});
  }
  if (error) throw StorageError("{}: cannot be listed: {}", dir, error.message());
  std::sort(found.begin(), found.end(), [](const Leftover& a, const Leftover& b) { return a.name < b.name; });
  return found;
}

}  // namespace deepflow
