// Our HDF5 token store with some of its bytes changed: the input is a list of (place, value), three bytes and one. The
// library itself is not instrumented.
#include "data/token_store.h"
#include "data/token_store_writer.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>

namespace deepflow::fuzz {
namespace {

std::string written(int64_t vocabulary) {
  const Folder folder;
  TokenStoreWriter writer(folder / "a.h5", vocabulary, "digest");
  const std::vector<int32_t> document = {1, 2, 3, 4, 5};
  for (int i = 0; i < 2; ++i) writer.append(document, 9);
  writer.finish();
  return content_of(folder / "a.h5");
}

// A store of two documents, and where in it the bytes are that mean something: chunks are mostly empty.
struct Store {
  std::string bytes;
  MemoryFile file;
  std::vector<size_t> places;

  explicit Store(int64_t vocabulary) : bytes(written(vocabulary)), file(bytes) {
    constexpr size_t kBlock = 32;
    for (size_t begin = 0; begin < bytes.size(); begin += kBlock) {
      const size_t end = std::min(begin + kBlock, bytes.size());
      const auto in_use = [](char c) { return c != 0; };
      if (!std::any_of(bytes.data() + begin, bytes.data() + end, in_use)) continue;
      for (size_t i = begin; i < end; ++i) places.push_back(i);
    }
  }
};

// The changes of an input, taken back at the end.
struct Changes {
  const Store& store;
  std::vector<size_t> places;

  Changes(const Store& of, std::string_view list) : store(of) {
    for (; list.size() >= 4; list.remove_prefix(4)) {
      const auto at = [&](size_t k) { return size_t{static_cast<uint8_t>(list[k])}; };
      places.push_back(store.places[(at(0) | at(1) << 8 | at(2) << 16) % store.places.size()]);
      store.file.put(places.back(), list[3]);
    }
  }
  ~Changes() {
    for (const size_t place : places) store.file.put(place, store.bytes[place]);
  }
};

}  // namespace

void run_input(std::string_view bytes) {
  static const Store kNarrow(256), kWide(100000);
  if (bytes.empty()) return;
  const Changes changes(bytes[0] & 1 ? kWide : kNarrow, bytes.substr(1));
  const auto opened = open_token_store(changes.store.file.path());
  expect(opened->document_offsets().back() == opened->num_tokens(), "documents cover the tokens");
  opened->verify();
  std::vector<int32_t> tokens(static_cast<size_t>(opened->num_tokens()));
  opened->read(0, tokens);
}

std::vector<std::string> seeds(const std::string&) {
  std::vector<std::string> all = {std::string(1, '\0'), "\1"};
  for (char place = 0; place < 64; place += 8) all.push_back(std::string("\1") + place + std::string("\0\0\1", 3));
  return all;
}

}  // namespace deepflow::fuzz
