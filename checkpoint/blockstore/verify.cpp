#include "checkpoint/blockstore/verify.h"

#include "checkpoint/blockstore/data_files.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/boxes.h"
#include "checkpoint/printable.h"
#include "core/error.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

namespace deepflow {
namespace {

class Verifier {
 public:
  Verifier(const std::string& path, size_t most) : checkpoint_(path), files_(checkpoint_.dir()), most_(most) {}

  VerifyReport run() {
    const Manifest& m = checkpoint_.manifest();
    used_.resize(m.files.size());
    for (size_t f = 0; f < m.files.size(); ++f)
      guarded([&] {
        const BlockIndex& index = checkpoint_.index(static_cast<int>(f));
        check_data_file(static_cast<int>(f), index);
        used_[f].assign(index.records.size(), false);
      });
    for (const StoredTensor& t : m.tensors) check_tensor(t);
    for (size_t f = 0; f < m.files.size(); ++f) guarded([&] { check_use(static_cast<int>(f)); });
    report_.bytes_read = files_.bytes_read();
    return report_;
  }

 private:
  template <class F>
  void guarded(F&& f) {
    try {
      f();
    } catch (const DataError& e) {
      if (report_.damages.size() < most_) report_.damages.emplace_back(e.what());
    }
  }

  // Its own blocks follow one another and fill the file.
  void check_data_file(int file, const BlockIndex& index) {
    const std::string path = checkpoint_.path() + "/" + data_file_name(file);
    const uint64_t expected = checkpoint_.manifest().files[static_cast<size_t>(file)].data_bytes;
    struct stat status = {};
    if (stat(path.c_str(), &status) != 0) throw DataError("{}: is missing", path);
    if (static_cast<uint64_t>(status.st_size) != expected)
      throw DataError("{}: has {} bytes, expected {}", path, status.st_size, expected);
    if (!files_.is_there(checkpoint_.data_of(file))) throw DataError("{}: is no data file of version 1", path);
    uint64_t end = kDataMagic.size();
    for (const BlockRecord& r : index.records) {
      if (r.source != 0) continue;
      if (r.offset != end) throw DataError("{}: has a block at byte {}, expected {}", path, r.offset, end);
      end += r.stored;
    }
    if (end != expected) throw DataError("{}: its blocks end at byte {} of {}", path, end, expected);
  }

  void check_tensor(const StoredTensor& t) {
    guarded([&] { check_cover(t); });
    for (const StoredSlice& s : t.slices)
      for (int64_t b = 0; b < s.num_blocks; ++b) guarded([&] { check_block(t, s, b); });
  }

  // Each element once; of sums, once for each contributor that has any.
  void check_cover(const StoredTensor& t) const {
    std::map<int, std::vector<Box>> of_contributor;
    for (const StoredSlice& s : t.slices) {
      std::vector<Box>& boxes = of_contributor[s.contributor];
      boxes.insert(boxes.end(), s.boxes.begin(), s.boxes.end());
    }
    if (t.slices.empty()) throw DataError("{}: {} has no slice", checkpoint_.path(), printable(t.name));
    for (auto& [contributor, boxes] : of_contributor) {
      const int64_t elements = num_elements(boxes);
      if (elements != t.shape.num_elements() || overlap(boxes))
        throw DataError("{}: {} has slices of {} elements, expected each of its {} once", checkpoint_.path(),
                        printable(t.name), elements, t.shape.num_elements());
    }
  }

  // Sorted by their first extent, so that only neighbours are compared.
  static bool overlap(std::vector<Box> boxes) {
    std::sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.lo < b.lo; });
    for (size_t i = 0; i < boxes.size(); ++i)
      for (size_t k = i + 1; k < boxes.size() && !boxes[i].lo.empty() && boxes[k].lo[0] < boxes[i].hi[0]; ++k)
        if (intersection(boxes[i], boxes[k])) return true;
    return false;
  }

  void check_block(const StoredTensor& t, const StoredSlice& s, int64_t block) {
    if (used_[static_cast<size_t>(s.file)].empty()) return;  // its index is damaged
    const BlockIndex& index = checkpoint_.index(s.file);
    const auto record = static_cast<size_t>(s.first_block + block);
    const auto element = static_cast<int64_t>(size_of(t.dtype));
    const int64_t begin = block * kBlockBytes, raw = std::min(kBlockBytes, t.slice_bytes(s) - begin);
    if (record >= index.records.size() || index.records[record].raw != raw)
      throw DataError("{}/{}: has no block {} of {} bytes, which {} needs", checkpoint_.path(), index_file_name(s.file),
                      record, raw, printable(t.name));
    mark(s.file, index, record);
    values_.resize(static_cast<size_t>(raw));
    try {
      files_.read_block(index, record, checkpoint_.data_of(s.file), t.dtype, values_);
    } catch (const DataError& e) {
      throw DataError("{}; elements {} to {} of a slice of {} are lost", e.what(), begin / element,
                      (begin + raw) / element, printable(t.name));
    }
    ++report_.blocks;
  }

  void mark(int file, const BlockIndex& index, size_t record) {
    std::vector<bool>& used = used_[static_cast<size_t>(file)];
    used[record] = true;
    if (index.records[record].base != kNoBase) used[index.records[record].base] = true;
  }

  void check_use(int file) const {
    const std::vector<bool>& used = used_[static_cast<size_t>(file)];
    const auto unused = std::count(used.begin(), used.end(), false);
    if (unused > 0)
      throw DataError("{}/{}: {} of {} blocks belong to no tensor", checkpoint_.path(), index_file_name(file), unused,
                      used.size());
  }

  StoredCheckpoint checkpoint_;
  DataFiles files_;
  size_t most_;
  std::vector<std::vector<bool>> used_;
  std::vector<char> values_;
  VerifyReport report_;
};

}  // namespace

VerifyReport verify_checkpoint(const std::string& path, size_t most_damages) {
  try {
    return Verifier(path, most_damages).run();
  } catch (const DataError& e) {
    VerifyReport report;
    report.damages.emplace_back(e.what());
    return report;
  }
}

}  // namespace deepflow
