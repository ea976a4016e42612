#include "checkpoint/blockstore/stored_checkpoint.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace deepflow {
namespace {

constexpr uint64_t kLongestCommit = 4096;

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// The folder behind a link ("latest"), so that its name is the step's.
std::string resolved(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  return error ? without_slashes(path) : real.string();
}

}  // namespace

std::string read_whole_file(const std::string& path, uint64_t most) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw DataError("{}: is missing; the checkpoint is damaged", path);
    throw StorageError("{}: cannot be opened: {}", path, std::strerror(errno));
  }
  struct stat status = {};
  std::string bytes;
  ssize_t n = fstat(descriptor, &status);
  if (n == 0 && static_cast<uint64_t>(status.st_size) <= most) {
    bytes.resize(static_cast<size_t>(status.st_size));
    size_t done = 0;
    while (done < bytes.size() && (n = read(descriptor, bytes.data() + done, bytes.size() - done)) > 0)
      done += static_cast<size_t>(n);
    bytes.resize(done);
  }
  const int error = errno;
  close(descriptor);
  if (n < 0) throw StorageError("{}: cannot be read: {}", path, std::strerror(error));
  if (static_cast<uint64_t>(status.st_size) > most)
    throw DataError("{}: has {} bytes, expected at most {}; the checkpoint is damaged", path, status.st_size, most);
  return bytes;
}

std::string StoredCheckpoint::read_manifest(const std::string& path) {
  const std::string commit_path = path + "/" + kCommitName, manifest_path = path + "/" + kManifestName;
  const CommitRecord commit = CommitRecord::read(read_whole_file(commit_path, kLongestCommit), commit_path);
  std::string text = read_whole_file(manifest_path, commit.manifest_bytes);
  if (text.size() != commit.manifest_bytes || !(digest_of(text) == commit.manifest_digest))
    throw DataError("{}: does not have the length and digest of {}; the checkpoint is damaged", manifest_path,
                    commit_path);
  return text;
}

StoredCheckpoint::StoredCheckpoint(const std::string& path) : StoredCheckpoint(path, read_manifest(path)) {}

StoredCheckpoint::StoredCheckpoint(const std::string& path, const std::string& manifest_text)
    : path_(resolved(path)), manifest_(Manifest::read(manifest_text, path + "/" + kManifestName)) {
  const size_t slash = path_.find_last_of('/');
  dir_ = slash == std::string::npos ? "." : path_.substr(0, slash);
  name_ = slash == std::string::npos ? path_ : path_.substr(slash + 1);
  indices_.resize(manifest_.files.size());
}

const BlockIndex& StoredCheckpoint::index(int file) const {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<BlockIndex>& known = indices_[static_cast<size_t>(file)];
  if (known) return *known;
  const std::string path = path_ + "/" + index_file_name(file);
  const StoredFiles& files = manifest_.files[static_cast<size_t>(file)];
  const std::string bytes = read_whole_file(path, files.index_bytes);
  if (bytes.size() != files.index_bytes || !(digest_of(bytes) == files.index_digest))
    throw DataError("{}: does not have the length and digest of the manifest; the checkpoint is damaged", path);
  known = std::make_unique<BlockIndex>(BlockIndex::read(bytes, path));
  return *known;
}

}  // namespace deepflow
