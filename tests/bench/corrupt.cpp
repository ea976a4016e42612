// Flips single bits of a real pair of checkpoints, and cuts its files off, one at a time and in place: each time both
// checkpoints are verified and loaded. A change is detected when verify_checkpoint says so, and harmless when the very
// same values come out; what is neither ends the program with 1. The last line is one JSON object.
#include "checkpoint/blockstore/state_loader.h"
#include "checkpoint/blockstore/verify.h"
#include "checkpoint/checkpointer.h"
#include "core/error.h"
#include "parallel/self_communicator.h"
#include "tests/checkpoint/scratch_folder.h"

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <set>

namespace deepflow {
namespace {

namespace fs = std::filesystem;
using Random = std::mt19937_64;

constexpr const char* kOlder = "step-00000001";
constexpr const char* kNewer = "step-00000002";

// Tensors for each codec: noise, numbers, words that repeat.
class MixedState final : public StateOwner {
 public:
  explicit MixedState(uint64_t seed) : random_(seed) {
    add("frozen", {260, 301}, DType::kF32);
    add("moments", {400, 513}, DType::kF32);
    add("weights", {300, 257}, DType::kF32);
    add("half", {150, 1001}, DType::kBF16);
    add("codes", {333, 77}, DType::kU8);
    add("words", {90, 1000}, DType::kI32);
    add("step", {1}, DType::kI64);
    for (Item& item : items_) fill(item);
  }

  void visit_state(const StateVisitor& visit) override {
    for (Item& item : items_) {
      Box whole;
      for (const int64_t extent : item.shape) whole.lo.push_back(0), whole.hi.push_back(extent);
      StateEntry entry{item.name,      item.shape, {whole}, 0, Tensor::wrap(item.bytes.data(), item.shape, item.dtype),
                       Reshard::kSlice};
      visit(entry);
    }
  }

  // As training does: some tensors stay, some move by their last bits, others entirely.
  void train() {
    for (Item& item : items_) {
      if (item.name == "frozen" || item.name == "words") continue;
      if (item.name == "moments")
        for (size_t i = 0; i < item.bytes.size(); i += 4)
          item.bytes[i] = static_cast<char>(item.bytes[i] ^ (i / 4 % 3));
      else
        fill(item);
    }
  }

  void clear() {
    for (Item& item : items_) std::fill(item.bytes.begin(), item.bytes.end(), '\0');
  }
  bool operator==(const MixedState& other) const {
    for (size_t i = 0; i < items_.size(); ++i)
      if (items_[i].bytes != other.items_[i].bytes) return false;
    return true;
  }

 private:
  struct Item {
    std::string name;
    Shape shape;
    DType dtype;
    std::vector<char> bytes;
  };

  void add(const char* name, const Shape& shape, DType dtype) {
    items_.push_back(
        {name, shape, dtype, std::vector<char>(static_cast<size_t>(shape.num_elements()) * size_of(dtype))});
  }

  void fill(Item& item) {
    std::normal_distribution<float> normal(0, 0.02f);
    for (size_t i = 0; i < item.bytes.size(); i += size_of(item.dtype)) {
      const float x = normal(random_);
      const BF16 half = to_bf16(x);
      const int32_t word = static_cast<int32_t>(i / 4 % 40 * i / 4 % 977 * 65537);
      if (item.dtype == DType::kF32) std::memcpy(&item.bytes[i], &x, 4);
      if (item.dtype == DType::kBF16) std::memcpy(&item.bytes[i], &half, 2);
      if (item.dtype == DType::kI32) std::memcpy(&item.bytes[i], &word, 4);
      if (item.dtype == DType::kU8 || item.dtype == DType::kI64) item.bytes[i] = static_cast<char>(random_());
    }
  }

  Random random_;
  std::vector<Item> items_;
};

enum class Outcome : uint8_t { kDetected, kHarmless, kUndetected };

// Two checkpoints, of which the newer refers to blocks of the older one and has differences from others.
class Pair {
 public:
  Pair() : older_(1), newer_(1), loaded_(1) {
    auto self = make_self_communicator("all");
    const ThreadPool pool(1);
    CheckpointOptions o;
    o.dir = dir();
    o.keep = 0;
    o.threads = 2;
    Checkpointer checkpointer(*self, o, pool);
    save(checkpointer, older_, 1);
    newer_.train();
    save(checkpointer, newer_, 2);
    check_that_all_occurs();
  }

  std::string dir() const { return folder_ / "checkpoints"; }

  Outcome judge() {
    const Outcome older = judge(kOlder, older_), newer = judge(kNewer, newer_);
    if (older == Outcome::kUndetected || newer == Outcome::kUndetected) return Outcome::kUndetected;
    return older == Outcome::kDetected ? older : newer;
  }

 private:
  static void save(Checkpointer& checkpointer, MixedState& state, int64_t step) {
    checkpointer.save(state, step, R"({"recipe": "model: {family: llama}"})");
    const std::vector<SaveReport> reports = checkpointer.reports(true);
    if (!reports.front().error.empty()) throw StorageError("{}", reports.front().error);
  }

  void check_that_all_occurs() const {
    std::set<CodecId> codecs;
    bool refers = false;
    for (const char* name : {kOlder, kNewer}) {
      const StoredCheckpoint checkpoint(dir() + "/" + name);
      for (size_t f = 0; f < checkpoint.manifest().files.size(); ++f)
        for (const BlockRecord& r : checkpoint.index(static_cast<int>(f)).records) {
          codecs.insert(r.codec);
          refers = refers || (r.source != 0 && r.base == kNoBase);
        }
    }
    DF_ASSERT(refers && codecs == std::set<CodecId>({CodecId::kRaw, CodecId::kZstd, CodecId::kPlanes, CodecId::kDelta}),
              "the checkpoints lack a kind of block");
  }

  Outcome judge(const char* name, const MixedState& expected) {
    const std::string path = dir() + "/" + name;
    if (!verify_checkpoint(path).is_whole()) return Outcome::kDetected;
    try {
      loaded_.clear();
      load_state(loaded_, StoredCheckpoint(path), plan_save({held_entries(loaded_)}, 1), nullptr);
      return loaded_ == expected ? Outcome::kHarmless : Outcome::kUndetected;
    } catch (const Error&) {
      return Outcome::kUndetected;  // verification said that it can be loaded
    }
  }

  testing::ScratchFolder folder_;
  MixedState older_, newer_, loaded_;
};

// A file whose bytes are changed in place and put back.
class Victim {
 public:
  explicit Victim(const std::string& path) : path_(path), descriptor_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    struct stat status = {};
    if (descriptor_ < 0 || fstat(descriptor_, &status) != 0) throw StorageError("{}: cannot be changed", path);
    bytes_.resize(static_cast<size_t>(status.st_size));
    if (pread(descriptor_, bytes_.data(), bytes_.size(), 0) != status.st_size)
      throw StorageError("{}: cannot be read", path);
  }
  ~Victim() { close(descriptor_); }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return bytes_.size(); }

  Outcome flip(Pair& pair, uint64_t bit) {
    const size_t at = bit / 8;
    write(at, static_cast<char>(bytes_[at] ^ (1 << bit % 8)));
    const Outcome outcome = pair.judge();
    write(at, bytes_[at]);
    return outcome;
  }
  Outcome cut(Pair& pair, uint64_t length) {
    if (ftruncate(descriptor_, static_cast<off_t>(length)) != 0) throw StorageError("{}: cannot be cut", path_);
    const Outcome outcome = pair.judge();
    const size_t lost = bytes_.size() - length;
    if (pwrite(descriptor_, bytes_.data() + length, lost, static_cast<off_t>(length)) != static_cast<ssize_t>(lost))
      throw StorageError("{}: cannot be put back", path_);
    return outcome;
  }

 private:
  void write(size_t at, char byte) {
    if (pwrite(descriptor_, &byte, 1, static_cast<off_t>(at)) != 1) throw StorageError("{}: cannot be changed", path_);
  }

  std::string path_;
  int descriptor_;
  std::string bytes_;
};

struct Row {
  std::vector<std::unique_ptr<Victim>> files;
  int64_t counts[2][3] = {};  // flips and cuts, by outcome
};

// "older index", "newer data", ...
std::map<std::string, Row> files_by_kind(const std::string& dir) {
  std::map<std::string, Row> rows;
  for (const char* folder : {kOlder, kNewer})
    for (const auto& entry : fs::directory_iterator(dir + "/" + folder)) {
      const std::string name = entry.path().filename().string();
      const std::string age = folder == std::string(kOlder) ? "older " : "newer ";
      rows[age + name.substr(0, name.find('-'))].files.push_back(std::make_unique<Victim>(entry.path().string()));
    }
  return rows;
}

struct Request {
  int64_t flips = 10'000, truncations = 1'000;
  uint64_t seed = 1;
};

// Turns over the kinds; within one over its bytes, whichever file they are in.
void attack(Pair& pair, std::map<std::string, Row>& rows, int64_t times, bool flip, Random& random) {
  for (int64_t i = 0; i < times;) {
    for (auto& [kind, row] : rows) {
      if (i++ >= times) break;
      uint64_t total = 0;
      for (const auto& file : row.files) total += file->size();
      uint64_t at = random() % total, f = 0;
      while (at >= row.files[f]->size()) at -= row.files[f++]->size();
      Victim& file = *row.files[f];
      const uint64_t bit = at * 8 + random() % 8;
      const Outcome outcome = flip ? file.flip(pair, bit) : file.cut(pair, at);
      ++row.counts[flip ? 0 : 1][static_cast<size_t>(outcome)];
      if (outcome == Outcome::kUndetected)
        std::printf("UNDETECTED: %s: %s %lu\n", file.path().c_str(), flip ? "bit" : "cut to", flip ? bit : at);
    }
  }
}

int report(const std::map<std::string, Row>& rows, double seconds) {
  std::printf("%-16s %9s %8s %9s %9s %11s %8s %9s %9s %11s\n", "file", "bytes", "flips", "detected", "harmless",
              "undetected", "cuts", "detected", "harmless", "undetected");
  int64_t sums[2][3] = {};
  for (const auto& [kind, row] : rows) {
    uint64_t bytes = 0;
    for (const auto& file : row.files) bytes += file->size();
    std::printf("%-16s %9lu", kind.c_str(), bytes);
    for (int how = 0; how < 2; ++how) {
      const int64_t* n = row.counts[how];
      std::printf(" %8ld %9ld %9ld %11ld", n[0] + n[1] + n[2], n[0], n[1], n[2]);
      for (int k = 0; k < 3; ++k) sums[how][k] += n[k];
    }
    std::printf("\n");
  }
  const int64_t undetected = sums[0][2] + sums[1][2];
  std::printf("{\"flips\": %ld, \"truncations\": %ld, \"undetected\": %ld, \"harmless\": %ld, \"seconds\": %.1f}\n",
              sums[0][0] + sums[0][1] + sums[0][2], sums[1][0] + sums[1][1] + sums[1][2], undetected,
              sums[0][1] + sums[1][1], seconds);
  return undetected == 0 ? 0 : 1;
}

int run(const Request& asked) {
  const auto begin = std::chrono::steady_clock::now();
  Pair pair;
  DF_ASSERT(pair.judge() == Outcome::kHarmless, "the checkpoints are damaged as they are");
  std::map<std::string, Row> rows = files_by_kind(pair.dir());
  DF_ASSERT(rows.size() == 8, "{} kinds of files", rows.size());
  Random random(asked.seed);
  attack(pair, rows, asked.flips, true, random);
  attack(pair, rows, asked.truncations, false, random);
  DF_ASSERT(pair.judge() == Outcome::kHarmless, "a change was not put back");
  return report(rows, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"damaged checkpoints"};
  deepflow::Request asked;
  app.add_option("--flips", asked.flips, "single bits");
  app.add_option("--truncations", asked.truncations);
  app.add_option("--seed", asked.seed);
  CLI11_PARSE(app, argc, argv);
  try {
    return deepflow::run(asked);
  } catch (const deepflow::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
