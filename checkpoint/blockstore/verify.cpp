#include "checkpoint/blockstore/verify.h"

#include "checkpoint/blockstore/data_files.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/boxes.h"
#include "checkpoint/printable.h"
#include "core/error.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <memory>
#include <mutex>

namespace deepflow {
namespace {

constexpr int64_t kBlocksOfJob = 16;

class Verifier {
 public:
  Verifier(const std::string& path, size_t most, const ThreadPool* pool)
      : checkpoint_(path), pool_(pool ? *pool : alone_), files_(checkpoint_.dir()), most_(most) {}

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
    check_blocks();
    for (size_t f = 0; f < m.files.size(); ++f) guarded([&] { check_use(static_cast<int>(f)); });
    return report_;
  }

 private:
  // Some blocks of a slice, which one thread reads.
  struct Job {
    const StoredTensor* tensor;
    const StoredSlice* slice;
    int64_t first, last;
  };
  // What a thread has for itself.
  struct Reader {
    explicit Reader(const std::string& dir) : files(dir) {}
    DataFiles files;
    std::vector<char> values;
    int64_t blocks = 0;
    std::vector<std::pair<size_t, std::string>> damages;  // with the number of the job
  };

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
    for (const StoredSlice& s : t.slices) {
      if (used_[static_cast<size_t>(s.file)].empty()) continue;  // its index is damaged
      for (int64_t b = 0; b < s.num_blocks; ++b)
        if (!mark(s.file, s.first_block + b)) break;
      for (int64_t b = 0; b < s.num_blocks; b += kBlocksOfJob)
        jobs_.push_back({&t, &s, b, std::min(b + kBlocksOfJob, s.num_blocks)});
    }
  }

  // Damages come in the order of the jobs, whichever thread has found them.
  void check_blocks() {
    std::vector<std::unique_ptr<Reader>> readers;
    for (int t = 0; t < pool_.size(); ++t) readers.push_back(std::make_unique<Reader>(checkpoint_.dir()));
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::exception_ptr failed;
    pool_.run([&](int thread, int) {
      Reader& reader = *readers[static_cast<size_t>(thread)];
      try {
        for (size_t i = next++; i < jobs_.size(); i = next++) check(jobs_[i], i, reader);
      } catch (...) {
        const std::lock_guard lock(mutex);
        failed = std::current_exception();
        next = jobs_.size();
      }
    });
    if (failed) std::rethrow_exception(failed);
    std::vector<std::pair<size_t, std::string>> damages;
    for (const auto& reader : readers) {
      damages.insert(damages.end(), reader->damages.begin(), reader->damages.end());
      report_.blocks += reader->blocks;
      report_.bytes_read += reader->files.bytes_read();
    }
    std::stable_sort(damages.begin(), damages.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& damage : damages)
      if (report_.damages.size() < most_) report_.damages.push_back(damage.second);
  }

  void check(const Job& job, size_t number, Reader& reader) const {
    for (int64_t b = job.first; b < job.last; ++b) try {
        check_block(*job.tensor, *job.slice, b, reader);
      } catch (const DataError& e) {
        if (reader.damages.size() < most_) reader.damages.emplace_back(number, e.what());
      }
  }

  // Each element once; of sums, once for each contributor that has it, and for one at least.
  void check_cover(const StoredTensor& t) const {
    if (t.slices.empty()) throw DataError("{}: {} has no slice", checkpoint_.path(), printable(t.name));
    const std::map<int, std::vector<Box>> of_contributor = boxes_of_contributors(t);
    bool is_whole = false;
    for (const auto& [contributor, boxes] : of_contributor) {
      const int64_t elements = num_elements(boxes), all = t.shape.num_elements();
      if ((elements != all && t.rule != Reshard::kSum) || elements > all || overlap(boxes))
        throw DataError("{}: {} has slices of {} elements, expected each of its {} once", checkpoint_.path(),
                        printable(t.name), elements, all);
      is_whole |= elements == all;
    }
    if (is_whole) return;
    std::vector<Box> missing = {whole_box(t.shape)};
    for (const auto& [contributor, boxes] : of_contributor) missing = without(missing, boxes);
    if (!missing.empty())
      throw DataError("{}: {} of {} elements of {} lie in no slice", checkpoint_.path(), num_elements(missing),
                      t.shape.num_elements(), printable(t.name));
  }

  // Sorted by their first extent, so that only neighbours are compared.
  static bool overlap(std::vector<Box> boxes) {
    std::sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.lo < b.lo; });
    for (size_t i = 0; i < boxes.size(); ++i)
      for (size_t k = i + 1; k < boxes.size() && !boxes[i].lo.empty() && boxes[k].lo[0] < boxes[i].hi[0]; ++k)
        if (intersection(boxes[i], boxes[k])) return true;
    return false;
  }

  void check_block(const StoredTensor& t, const StoredSlice& s, int64_t block, Reader& reader) const {
    const BlockIndex& index = checkpoint_.index(s.file);
    const auto record = static_cast<size_t>(s.first_block + block);
    const auto element = static_cast<int64_t>(size_of(t.dtype));
    const int64_t begin = block * kBlockBytes, raw = std::min(kBlockBytes, t.slice_bytes(s) - begin);
    if (record >= index.records.size() || index.records[record].raw != raw)
      throw DataError("{}/{}: has no block {} of {} bytes, which {} needs", checkpoint_.path(), index_file_name(s.file),
                      record, raw, printable(t.name));
    reader.values.resize(static_cast<size_t>(raw));
    try {
      reader.files.read_block(index, record, checkpoint_.data_of(s.file), t.dtype, reader.values);
    } catch (const DataError& e) {
      throw DataError("{}; elements {} to {} of a slice of {} are lost", e.what(), begin / element,
                      (begin + raw) / element, printable(t.name));
    }
    ++reader.blocks;
  }

  bool mark(int file, int64_t block) {
    std::vector<bool>& used = used_[static_cast<size_t>(file)];
    const auto record = static_cast<size_t>(block);
    if (record >= used.size()) return false;
    const uint32_t base = checkpoint_.index(file).records[record].base;
    used[record] = true;
    if (base != kNoBase) used[base] = true;
    return true;
  }

  void check_use(int file) const {
    const std::vector<bool>& used = used_[static_cast<size_t>(file)];
    const auto unused = std::count(used.begin(), used.end(), false);
    if (unused > 0)
      throw DataError("{}/{}: {} of {} blocks belong to no tensor", checkpoint_.path(), index_file_name(file), unused,
                      used.size());
  }

  StoredCheckpoint checkpoint_;
  const ThreadPool alone_{1};
  const ThreadPool& pool_;
  DataFiles files_;
  size_t most_;
  std::vector<std::vector<bool>> used_;
  std::vector<Job> jobs_;
  VerifyReport report_;
};

}  // namespace

VerifyReport verify_checkpoint(const std::string& path, size_t most_damages, const ThreadPool* pool) {
  try {
    return Verifier(path, most_damages, pool).run();
  } catch (const DataError& e) {
    VerifyReport report;
    report.damages.emplace_back(e.what());
    return report;
  }
}

}  // namespace deepflow
