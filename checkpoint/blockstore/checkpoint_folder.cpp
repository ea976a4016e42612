#include "checkpoint/blockstore/checkpoint_folder.h"

#include "checkpoint/blockstore/stored_checkpoint.h"
#include "core/durable_file.h"
#include "core/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <set>

namespace deepflow {
namespace {

namespace fs = std::filesystem;
using FileId = std::pair<std::string, std::string>;  // folder, file

constexpr const char* kWriting = ".writing";
constexpr const char* kLatest = "latest";

std::string in(const std::string& folder, std::string_view name) { return fmt::format("{}/{}", folder, name); }

bool is_there(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

[[noreturn]] void fail(const std::string& path, const char* what, const std::error_code& error) {
  throw StorageError("{}: {}: {}", path, what, error.message());
}

void sync_folder(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0 || fsync(descriptor) != 0) {
    const int error = errno;
    if (descriptor >= 0) close(descriptor);
    throw_write_error(path, error, 0);
  }
  close(descriptor);
}

std::vector<std::string> names_in(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory) fail(dir, "cannot be listed", error);
  std::sort(names.begin(), names.end());
  return names;
}

void remove_tree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(path, "cannot be removed", error);
}

void rename_folder(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(from, "cannot be renamed", error);
}

// The data files that a checkpoint reads beside its own.
std::set<FileId> references(const std::string& path) {
  const StoredCheckpoint checkpoint(path);
  std::set<FileId> found;
  for (size_t f = 0; f < checkpoint.manifest().files.size(); ++f)
    for (const BlockSource& s : checkpoint.index(static_cast<int>(f)).sources) found.insert({s.folder, s.file});
  return found;
}

void point_latest_at(const std::string& dir, const std::string& name) {
  const std::string link = dir + "/" + kLatest, next = link + kWriting;
  std::error_code error;
  fs::remove(next, error);
  fs::create_directory_symlink(name, next, error);
  if (!error) fs::rename(next, link, error);
  if (error) fail(link, "cannot be pointed at the newest checkpoint", error);
}

bool is_kept(const std::vector<FoundCheckpoint>& all, size_t i, const Retention& r) {
  if (r.keep <= 0 || i + static_cast<size_t>(r.keep) >= all.size()) return true;
  return r.keep_every > 0 && all[i].step % r.keep_every == 0;
}

// One folder without a commit record, or about to lose it.
void clear_folder(const std::string& dir, const std::string& name, const std::set<FileId>& needed, bool only_say,
                  PruneReport& report) {
  const std::string path = dir + "/" + name;
  bool stays = false;
  for (const std::string& file : names_in(path)) {
    std::error_code error;
    const auto bytes = static_cast<int64_t>(fs::file_size(in(path, file), error));
    if (needed.count({name, file}) > 0) {
      stays = true;
      report.shared += error ? 0 : bytes;
      continue;
    }
    report.freed += error ? 0 : bytes;
    if (!only_say) remove_tree(in(path, file));
  }
  if (!stays && !only_say) remove_tree(path);
}

}  // namespace

std::vector<FoundCheckpoint> list_checkpoints(const std::string& dir) {
  std::vector<FoundCheckpoint> found;
  for (const std::string& name : names_in(dir)) {
    if (!is_step_folder_name(name) || !is_there(in(in(dir, name), kCommitName))) continue;
    FoundCheckpoint c{0, in(dir, name)};
    const char* end = name.data() + name.size();
    if (std::from_chars(name.data() + std::strlen("step-"), end, c.step).ptr == end) found.push_back(std::move(c));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

std::string name_while_written(const std::string& name) { return name + kWriting; }

void begin_checkpoint(const std::string& dir, const std::string& name) {
  const std::string path = dir + "/" + name_while_written(name);
  std::error_code error;
  fs::create_directories(dir, error);
  if (!error) fs::remove_all(path, error);
  if (!error) fs::create_directory(path, error);
  if (error) fail(path, "cannot be made", error);
}

void commit_checkpoint(const std::string& dir, const std::string& name, const std::string& manifest_text) {
  const std::string path = dir + "/" + name_while_written(name), final_path = dir + "/" + name;
  write_file_durably(path + "/" + kManifestName, manifest_text);
  const CommitRecord commit{manifest_text.size(), digest_of(manifest_text)};
  write_file_durably(path + "/" + kCommitName, commit.write());
  sync_folder(path);
  if (is_there(final_path)) {
    for (const FoundCheckpoint& other : list_checkpoints(dir))
      if (other.path != final_path)
        for (const FileId& file : references(other.path))
          if (file.first == name)
            throw StorageError("{}: cannot be written again, because {} refers to its blocks; remove that one first",
                               final_path, other.path);
    remove_tree(final_path);
  }
  rename_folder(path, final_path);
  sync_folder(dir);
  point_latest_at(dir, name);
}

void abandon_checkpoint(const std::string& dir, const std::string& name) {
  std::error_code ignored;
  fs::remove_all(dir + "/" + name_while_written(name), ignored);
}

std::string set_aside(const std::string& path) {
  std::string aside = path + ".damaged";
  for (int i = 2; is_there(aside); ++i) aside = fmt::format("{}.damaged-{}", path, i);
  rename_folder(path, aside);
  return aside;
}

PruneReport prune_checkpoints(const std::string& dir, const Retention& retention, bool only_say) {
  PruneReport report;
  const std::vector<FoundCheckpoint> all = list_checkpoints(dir);
  std::set<std::string> kept;
  std::set<FileId> needed;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!is_kept(all, i, retention)) continue;
    kept.insert(step_folder_name(all[i].step));
    const std::set<FileId> own = references(all[i].path);
    needed.insert(own.begin(), own.end());
  }
  for (const FoundCheckpoint& c : all) {
    const std::string name = step_folder_name(c.step);
    if (kept.count(name) > 0) continue;
    report.removed.push_back(name);
    if (only_say) continue;
    std::error_code error;
    fs::remove(c.path + "/" + kCommitName, error);
    if (error) fail(c.path, "cannot be removed", error);
    sync_folder(c.path);
  }
  for (const std::string& name : names_in(dir)) {
    if (name.starts_with("step-") && name.ends_with(kWriting) && !only_say) remove_tree(in(dir, name));
    if (is_step_folder_name(name) && kept.count(name) == 0) clear_folder(dir, name, needed, only_say, report);
  }
  return report;
}

}  // namespace deepflow
