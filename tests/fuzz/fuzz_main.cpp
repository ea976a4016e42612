#include "core/error.h"
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace deepflow::fuzz {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "\n=====\n";

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

std::vector<std::string> split(std::string_view bytes, size_t most) {
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin <= bytes.size();) {
    const size_t mark = pieces.size() + 1 < most ? bytes.find(kMark, begin) : std::string_view::npos;
    const size_t end = mark == std::string_view::npos ? bytes.size() : mark;
    pieces.emplace_back(bytes.substr(begin, end - begin));
    if (mark == std::string_view::npos) break;
    begin = end + kMark.size();
  }
  return pieces;
}

std::string join(const std::vector<std::string>& pieces) {
  std::string bytes;
  for (size_t i = 0; i < pieces.size(); ++i) bytes.append(i == 0 ? "" : kMark).append(pieces[i]);
  return bytes;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  expect(file.good(), path.c_str());
  return std::move(content).str();
}

MemoryFile::MemoryFile(std::string_view bytes) : descriptor_(memfd_create("fuzz", 0)) {
  expect(descriptor_ >= 0, "there is memory for a file");
  expect(write(descriptor_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "it is written");
  path_ = "/proc/self/fd/" + std::to_string(descriptor_);
}
MemoryFile::~MemoryFile() { close(descriptor_); }
void MemoryFile::put(size_t place, char byte) const {
  expect(pwrite(descriptor_, &byte, 1, static_cast<off_t>(place)) == 1, "a byte is written");
}

Folder::Folder() : path_((fs::temp_directory_path() / "deepflow-fuzz-XXXXXX").string()) {
  expect(mkdtemp(path_.data()) != nullptr, "there is a temporary folder");
}
Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}
void Folder::put(const std::string& name, std::string_view bytes) const {
  std::ofstream file(*this / name, std::ios::binary | std::ios::trunc);
  file << bytes;
  expect(file.flush().good(), "the temporary folder has space");
}
void Folder::remove(const std::string& name) const {
  std::error_code ignored;
  fs::remove(*this / name, ignored);
}

}  // namespace deepflow::fuzz

// `PROGRAM --write-seeds FOLDER SOURCE` writes the seeds and ends; everything else is libFuzzer's.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace deepflow::fuzz;
  if (*argc != 4 || std::string_view((*argv)[1]) != "--write-seeds") return 0;
  fs::create_directories((*argv)[2]);
  int number = 0;
  for (const std::string& seed : seeds((*argv)[3])) {
    std::ofstream file(fs::path((*argv)[2]) / ("seed-" + std::to_string(number++)), std::ios::binary);
    file << seed;
  }
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  try {
    deepflow::fuzz::run_input({reinterpret_cast<const char*>(bytes), size});
  } catch (const deepflow::Error& e) {
    const std::string_view what = e.what();
    deepflow::fuzz::expect(!what.empty() && what.find('\n') == std::string_view::npos, "a message is one line");
  }
  return 0;
}
