#include "data/document_input.h"

#include "core/error.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

namespace deepflow {
namespace {

std::string error_text(int error_number) { return std::generic_category().message(error_number); }

std::vector<std::string> files_below(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code failed;
  fs::recursive_directory_iterator it(folder, failed), end;
  while (!failed && it != end) {
    if (it->path().filename().string().front() == '.') {
      it.disable_recursion_pending();
    } else if (std::error_code ignored; it->is_regular_file(ignored)) {
      files.push_back(it->path().string());
    }
    it.increment(failed);
  }
  if (failed) throw StorageError("{}: cannot list the folder: {}", folder, failed.message());
  if (files.empty()) throw DataError("{}: the folder holds no files; name one with text", folder);
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

DocumentInput::DocumentInput(std::string path) : path_(std::move(path)) {
  errno = 0;
  const gzFile file = gzopen(path_.c_str(), "rb");
  if (file == nullptr) throw StorageError("{}: cannot open: {}", path_, error_text(errno == 0 ? ENOMEM : errno));
  gzbuffer(file, 1 << 18);
  file_ = file;
}

DocumentInput::~DocumentInput() { gzclose_r(static_cast<gzFile>(file_)); }

size_t DocumentInput::read(char* out, size_t count) {
  const gzFile file = static_cast<gzFile>(file_);
  size_t done = 0;
  while (done < count) {
    errno = 0;
    const int got = gzread(file, out + done, static_cast<unsigned>(std::min<size_t>(count - done, 1 << 30)));
    if (got > 0) {
      done += static_cast<size_t>(got);
      continue;
    }
    const int system_error = errno;
    int code = Z_OK;
    const std::string text = gzerror(file, &code);
    if (code == Z_ERRNO) throw StorageError("{}: cannot read: {}", path_, error_text(system_error));
    if (code == Z_BUF_ERROR) throw DataError("{}: the compressed file ends too early; copy it again", path_);
    if (code != Z_OK && code != Z_STREAM_END) {
      throw DataError("{}: the compressed file is damaged ({}); copy it again", path_,
                      zError(code) != nullptr ? zError(code) : text);
    }
    break;
  }
  return done;
}

std::vector<std::string> list_document_files(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code failed;
    const auto status = std::filesystem::status(path, failed);
    if (!std::filesystem::exists(status)) throw StorageError("{}: no such file or folder", path);
    if (!std::filesystem::is_directory(status)) {
      files.push_back(path);
      continue;
    }
    for (std::string& file : files_below(path)) files.push_back(std::move(file));
  }
  return files;
}

}  // namespace deepflow
