#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// What a fuzz target is: one file that defines run_input() and seeds(). fuzz_main.cpp is libFuzzer's entry.
namespace deepflow::fuzz {

// Reads the bytes as a user's file. Throws a deepflow::Error of one line for what is malformed; everything else that it
// throws, and every abort, is a finding.
void run_input(std::string_view bytes);

// Valid inputs to begin with. `source` is the root of the repository.
std::vector<std::string> seeds(const std::string& source);

// Aborts with `what` when it does not hold: for what must be true of every input that was accepted.
void expect(bool holds, const char* what);

// Inputs of several files: at most `most` pieces with a line "=====" between them.
std::vector<std::string> split(std::string_view bytes, size_t most);
std::string join(const std::vector<std::string>& pieces);

std::string content_of(const std::string& path);

// A file in memory that readers open by its path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const { return path_; }
  void put(size_t place, char byte) const;

 private:
  int descriptor_;
  std::string path_;
};

// A folder below $TMPDIR that ends with the process; each put() replaces a file of it.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void put(const std::string& name, std::string_view bytes) const;
  void remove(const std::string& name) const;

 private:
  std::string path_;
};

}  // namespace deepflow::fuzz
