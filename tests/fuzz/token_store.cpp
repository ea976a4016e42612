// A token store: llm.c in one file (or whatever is mistaken for one), Megatron's .idx and .bin in two.
#include "data/token_store.h"

#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <cstring>

namespace deepflow::fuzz {
namespace {

void read_all(const std::string& path) {
  const auto store = open_token_store(path);
  const std::vector<int64_t>& offsets = store->document_offsets();
  expect(offsets.size() >= 2 && offsets.front() == 0 && offsets.back() == store->num_tokens(),
         "documents cover the tokens");
  expect(std::is_sorted(offsets.begin(), offsets.end()), "documents lie in order");
  store->verify();
  std::vector<int32_t> tokens(static_cast<size_t>(std::min<int64_t>(store->num_tokens(), 100)));
  store->read(store->num_tokens() - static_cast<int64_t>(tokens.size()), tokens);
}

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

void run_input(std::string_view bytes) {
  const std::vector<std::string> pieces = split(bytes, 2);
  if (pieces.size() == 1) {
    const MemoryFile file(bytes);
    return read_all(file.path());
  }
  static const Folder folder;
  folder.put("a.idx", pieces[0]);
  folder.put("a.bin", pieces[1]);
  read_all(folder / "a.bin");
}

std::vector<std::string> seeds(const std::string&) {
  std::vector<std::string> all;
  std::string llmc;
  for (const int32_t word : {20240520, 1, 4}) append(llmc, word);
  llmc.resize(1024);
  for (const int token : {50256, 1, 50256, 2}) append(llmc, static_cast<uint16_t>(token));
  all.push_back(llmc);
  for (const int type : {8, 4, 6}) {  // u16, i32, f64
    std::string index("MMIDIDX\0\0", 9), tokens;
    append(index, uint64_t{1});
    append(index, static_cast<uint8_t>(type));
    append(index, uint64_t{2});
    append(index, uint64_t{3});
    const int64_t bytes = type == 8 ? 2 : type == 4 ? 4 : 8;
    for (const int32_t length : {3, 1}) append(index, length);
    for (const int64_t first : {0, 3}) append(index, first * bytes);
    for (const int64_t bound : {0, 1, 2}) append(index, bound);
    tokens.resize(static_cast<size_t>(4 * bytes));
    all.push_back(join({index, tokens}));
  }
  return all;
}

}  // namespace deepflow::fuzz
