// What a checkpoint holds and that it counts: manifest.json and the commit record.
#include "checkpoint/blockstore/manifest.h"

#include "checkpoint/blockstore/block_index.h"
#include "core/error.h"
#include "tests/fuzz/fuzz.h"

namespace deepflow::fuzz {
namespace {

void follow(const Manifest& m) {
  for (const StoredTensor& t : m.tensors) {
    expect(m.find(t.name) == &t, "a tensor is found by its name");
    for (const StoredSlice& s : t.slices) {
      expect(s.file >= 0 && static_cast<size_t>(s.file) < m.files.size(), "a slice lies in a file");
      expect(s.num_blocks == (t.slice_bytes(s) + kBlockBytes - 1) / kBlockBytes, "a slice has the blocks it needs");
    }
  }
  expect(m.raw_bytes() >= 0, "a size");
}

}  // namespace

void run_input(std::string_view bytes) {
  try {
    const CommitRecord commit = CommitRecord::read(bytes, "commit");
    expect(CommitRecord::read(commit.write(), "commit").manifest_digest == commit.manifest_digest, "a record is kept");
  } catch (const DataError&) {
  }
  const Manifest m = Manifest::read(bytes, "manifest.json");
  follow(m);
  const std::string text = m.write();
  expect(Manifest::read(text, "manifest.json").write() == text, "what is written is read as the same");
}

std::vector<std::string> seeds(const std::string&) {
  Manifest m;
  m.step = 7;
  m.run = R"({"recipe":"train: {}","layout":{"ranks":2}})";
  m.files.assign(2, {1000, 100, {1, 2}});
  StoredTensor w{"w", DType::kBF16, {300, 1000}, Reshard::kSlice, {}};
  w.slices.push_back({0, 0, 2, 0, {{{0, 0}, {200, 1000}}}});
  w.slices.push_back({1, 3, 1, 0, {{{200, 0}, {300, 500}}, {{200, 500}, {300, 1000}}}});
  m.tensors.push_back(w);
  StoredTensor sum{"z", DType::kF32, {}, Reshard::kSum, {}};
  sum.slices.push_back({1, 4, 1, 5, {{{}, {}}}});
  m.tensors.push_back(sum);
  return {m.write(), CommitRecord{5, {1, 2}}.write()};
}

}  // namespace deepflow::fuzz
