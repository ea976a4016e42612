// The C++ half of `tests/bench/run.sh tokenizer`; tokenizer.py drives it and holds the comparison.
//   bench_tokenizer train PATTERN VOCABULARY NFC(0|1) THREADS DOCUMENTS FOLDER    prints seconds and the vocabulary
//   reached bench_tokenizer encode TOKENIZER DOCUMENTS IDS THREADS                        prints the seconds of
//   encoding alone
// DOCUMENTS: per document a 64-bit length and its bytes. IDS: per document a 64-bit count and 32-bit ids.
#include "data/tokenizer.h"

#include "core/error.h"
#include "data/bpe_trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

namespace deepflow {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of all threads together: what "per core" means, whatever else the machine does.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw StorageError("{}: cannot be opened", path);
  std::ostringstream content;
  content << file.rdbuf();
  return std::move(content).str();
}

std::vector<std::string_view> documents(const std::string& content, const char* path) {
  std::vector<std::string_view> all;
  for (size_t at = 0; at < content.size();) {
    uint64_t length = 0;
    if (content.size() - at < 8) throw DataError("{}: cut off", path);
    memcpy(&length, content.data() + at, 8);
    at += 8;
    if (content.size() - at < length) throw DataError("{}: cut off", path);
    all.emplace_back(content.data() + at, length);
    at += length;
  }
  return all;
}

void train(char** argv) {
  BpeTrainerOptions options;
  options.pattern = argv[0];
  options.vocabulary = atoll(argv[1]);
  options.nfc = atoi(argv[2]) != 0;
  options.threads = atoi(argv[3]);
  const std::string content = read_file(argv[4]);
  const auto texts = documents(content, argv[4]);
  const double start = now();
  const auto tokenizer = train_bpe(options, texts);
  fmt::print("{:.4f} {}\n", now() - start, tokenizer->vocabulary_size());
  save_tokenizer(*tokenizer, argv[5]);
}

void encode(char** argv) {
  const auto tokenizer = load_tokenizer(argv[0]);
  const std::string content = read_file(argv[1]);
  const auto texts = documents(content, argv[1]);
  const double start = cpu_seconds();
  const EncodedDocuments encoded = encode_documents(*tokenizer, texts, {}, atoi(argv[3]));
  fmt::print("{:.6f}\n", cpu_seconds() - start);
  std::ofstream out(argv[2], std::ios::binary);
  int64_t begin = 0;
  for (const int64_t end : encoded.ends) {
    const int64_t count = end - begin;
    out.write(reinterpret_cast<const char*>(&count), 8);
    out.write(reinterpret_cast<const char*>(encoded.ids.data() + begin), static_cast<std::streamsize>(4 * count));
    begin = end;
  }
  out.close();
  if (!out) throw StorageError("{}: cannot be written", argv[2]);
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  try {
    if (argc == 8 && strcmp(argv[1], "train") == 0) return deepflow::train(argv + 2), 0;
    if (argc == 6 && strcmp(argv[1], "encode") == 0) return deepflow::encode(argv + 2), 0;
    fmt::print(stderr, "usage: see the head of tests/bench/tokenizer.cpp\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_tokenizer: {}\n", e.what());
  }
  return 2;
}
