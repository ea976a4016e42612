#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace deepflow {

// A file that appears whole or not at all. Bytes go to a temporary name in the same folder; commit() fsyncs them,
// renames the temporary over `path` and fsyncs the folder. Without commit() the destructor removes the temporary,
// so a crash or an exception leaves an older file at `path` as it was. Every failure is a StorageError.

// The temporary name and its rename, for bytes that somebody else writes (HDF5).
class DurableName {
 public:
  explicit DurableName(std::string path);  // creates an empty temporary file
  ~DurableName();
  DurableName(const DurableName&) = delete;
  DurableName& operator=(const DurableName&) = delete;

  const std::string& path() const { return path_; }
  const std::string& temporary() const { return temporary_; }
  void commit();   // the writer has closed or flushed its descriptor
  void discard();  // frees the space at once, even while a descriptor is still open

 private:
  std::string path_;
  std::string temporary_;
};

// The same for bytes that we write ourselves.
class DurableFile {
 public:
  explicit DurableFile(std::string path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  const std::string& path() const { return name_.path(); }
  int64_t size() const { return size_; }
  void append(const void* bytes, size_t count);
  void append(std::string_view bytes) { append(bytes.data(), bytes.size()); }
  void commit();

 private:
  DurableName name_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

void write_file_durably(const std::string& path, std::string_view bytes);

// Writes all of it to an open descriptor, however many calls that takes. `path` is for the message.
void write_all(int descriptor, const void* bytes, size_t count, const std::string& path);

// "PATH: no space left on device while writing N bytes; free space and run again", or what else `error_number` says.
[[noreturn]] void throw_write_error(const std::string& path, int error_number, int64_t bytes);

}  // namespace deepflow
