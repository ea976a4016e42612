// Checkpoints of a state of AdamW (f32 masters, m and v) that is cut over the ranks, for tests/bench/checkpoint_io.py:
// every rank runs this program, and rank 0 prints one JSON object. Files are on the disk when a time of writing ends,
// and not in the page cache when a time of reading begins.
#include "checkpoint/blockstore/tensor_reader.h"
#include "checkpoint/checkpointer.h"
#include "core/durable_file.h"
#include "core/error.h"
#include "core/memory.h"
#include "parallel/bootstrap.h"

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace deepflow {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int64_t kRows = 4096, kColumns = 1024;  // of every tensor
constexpr size_t kPiece = size_t{4} << 20;
constexpr int kDiskTries = 4;
constexpr const char* kKinds[] = {"parameters", "adamw.m", "adamw.v"};

struct Request {
  std::string what, state, dir, codec = "auto";
  int64_t layers = 20;
  int threads = 1;
};

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Normal numbers, fast enough for a gigabyte of them.
class Normal {
 public:
  explicit Normal(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  float operator()() {
    const float r = std::sqrt(-2 * std::log(uniform())), angle = 6.2831853f * uniform();
    return r * std::cos(angle);
  }

 private:
  float uniform() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return (static_cast<float>(state_ >> 40) + 0.5f) * 0x1p-24f;
  }
  uint64_t state_;
};

// One rank's rows of every tensor.
class AdamState final : public StateOwner {
 public:
  AdamState(Communicator& all, int64_t layers) : rank_(all.rank()), rows_(kRows / all.size()), layers_(layers) {
    bytes_ = Tensor::empty(allocator_, {num_bytes()}, DType::kU8);
    std::memset(raw(), 0, size());
  }

  char* raw() const { return static_cast<char*>(bytes_.raw()); }
  size_t size() const { return static_cast<size_t>(num_bytes()); }
  static std::string file(const std::string& dir, int rank) { return fmt::format("{}/state-{}", dir, rank); }

  void read(const std::string& dir) {
    std::ifstream in(file(dir, rank_), std::ios::binary);
    if (!in.read(raw(), num_bytes())) throw StorageError("{}: cannot be read", file(dir, rank_));
  }
  void write(const std::string& dir) const {
    std::ofstream out(file(dir, rank_), std::ios::binary);
    if (!out.write(raw(), num_bytes())) throw StorageError("{}: cannot be written", file(dir, rank_));
  }

  // Weights of one scale; gradients whose scale differs from row to row and from column to column.
  void draw() {
    auto* values = reinterpret_cast<float*>(raw());
    Normal normal(static_cast<uint64_t>(rank_) + 1);
    std::vector<float> column(kColumns);
    for (int64_t layer = 0; layer < layers_; ++layer)
      for (int kind = 0; kind < 3; ++kind) {
        for (float& c : column) c = std::exp(0.5f * normal());
        for (int64_t r = 0; r < rows_; ++r) {
          const float row = 1e-4f * std::exp(normal());
          for (const float c : column) *values++ = value(kind, row * c, normal());
        }
      }
  }

  // What a few steps change: the last bits of everything.
  void nudge() {
    for (size_t i = 0; i < size(); i += 4) raw()[i] = static_cast<char>(raw()[i] ^ (i * 2654435761u >> 16 & 15));
  }

  void visit_state(const StateVisitor& visit) override {
    char* at = raw();
    const Box mine{{rank_ * rows_, 0}, {(rank_ + 1) * rows_, kColumns}};
    for (int64_t layer = 0; layer < layers_; ++layer)
      for (const char* kind : kKinds) {
        StateEntry entry{fmt::format("{}/layers.{}.weight", kind, layer),  {kRows, kColumns}, {mine}, 0,
                         Tensor::wrap(at, {rows_, kColumns}, DType::kF32), Reshard::kSlice};
        visit(entry);
        at += rows_ * kColumns * 4;
      }
  }

 private:
  int64_t num_bytes() const { return layers_ * 3 * rows_ * kColumns * 4; }
  static float value(int kind, float scale, float x) {
    if (kind == 0) return 0.02f * x;
    if (kind == 1) return scale * x;
    const float spread = 1 + 0.3f * x;
    return scale * scale * spread * spread;
  }

  CachingHostAllocator allocator_;
  int64_t rank_, rows_, layers_;
  Tensor bytes_;
};

class Bench {
 public:
  Bench(World& world, const Request& asked) : all_(world.all()), asked_(asked), pool_(1), state_(all_, asked.layers) {}

  nlohmann::json run() {
    if (asked_.what == "make") {
      state_.draw();
      state_.write(asked_.state);
    } else {
      state_.read(asked_.state);
    }
    if (asked_.what == "times") times();
    if (asked_.what == "memory") memory();
    return line_;
  }

 private:
  bool is_first() const { return all_.rank() == 0; }
  std::string step_folder() const { return asked_.dir + "/" + step_folder_name(1); }

  CheckpointOptions options() const {
    CheckpointOptions o;
    o.dir = asked_.dir;
    o.codec = asked_.codec;
    o.async = false;
    o.threads = asked_.threads;
    return o;
  }

  // From the moment that all ranks are there until all are done.
  template <class F>
  double timed(F&& f) {
    all_.barrier("begin")->wait_host();
    const auto begin = Clock::now();
    f();
    all_.barrier("end")->wait_host();
    return seconds_since(begin);
  }

  void forget_files() {
    all_.barrier("before")->wait_host();
    if (is_first())
      for (const auto& entry : fs::directory_iterator(step_folder())) forget(entry.path().string());
    all_.barrier("forgotten")->wait_host();
  }
  static void forget(const std::string& path) {
    const int descriptor = open(path.c_str(), O_RDONLY);
    fsync(descriptor);
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    close(descriptor);
  }

  void times() {
    std::optional<Checkpointer> checkpointer;
    SaveReport report;
    line_["save"] = timed([&] {
      checkpointer.emplace(all_, options(), pool_);
      checkpointer->save(state_, 1, "{}");
      report = checkpointer->reports(true).front();
    });
    if (!report.error.empty()) throw StorageError("{}", report.error);
    line_["raw"] = report.stats.raw;
    line_["stored"] = report.stats.stored;
    line_["copy"] = report.snapshot;
    checkpointer.reset();
    AdamState loaded(all_, asked_.layers);
    forget_files();
    line_["load"] = timed([&] { Checkpointer(all_, options(), pool_).resume(loaded); });
    line_["load_again"] = timed([&] { Checkpointer(all_, options(), pool_).resume(loaded); });  // from memory
    if (std::memcmp(loaded.raw(), state_.raw(), state_.size()) != 0) throw DataError("other values came back");
    one_tensor();
    disk();
    if (is_first()) fs::remove_all(asked_.dir);
  }

  void one_tensor() {
    forget_files();
    if (!is_first()) return;
    const StoredCheckpoint checkpoint(step_folder());
    TensorReader reader(checkpoint);
    const StoredTensor& tensor = checkpoint.manifest().tensors.front();
    std::vector<char> values(static_cast<size_t>(tensor.shape.num_elements()) * 4);
    const auto begin = Clock::now();
    reader.read(tensor, {{{0, 0}, {kRows, kColumns}}}, values);
    line_["one_tensor_seconds"] = seconds_since(begin);
    line_["one_tensor_bytes"] = reader.bytes_read();
    line_["one_tensor_raw"] = values.size();
  }

  double write_plain(const std::string& path, size_t size, bool begins_early) {
    unlink(path.c_str());
    return timed([&] {
      const int to = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
      for (size_t at = 0; at < size; at += kPiece) {
        write_all(to, state_.raw() + at, std::min(kPiece, size - at), path);
        if (begins_early) sync_file_range(to, static_cast<off_t>(at), kPiece, SYNC_FILE_RANGE_WRITE);
      }
      if (fdatasync(to) != 0 || close(to) != 0) throw StorageError("{}: cannot be synced", path);
    });
  }

  // The same bytes with nothing but the system: write, on the disk; read.
  void disk() {
    const std::string stored = fmt::format("{}/{}", step_folder(), data_file_name(all_.rank() * asked_.threads));
    const std::string plain = fmt::format("{}/plain-{}", step_folder(), all_.rank());
    const size_t size =
        std::min(state_.size(), static_cast<size_t>(fs::file_size(stored)) * static_cast<size_t>(asked_.threads));
    // The disk's rate wanders: the best of some tries, with and without telling it to begin early.
    double best = 1e9;
    for (int i = 0; i < kDiskTries; ++i) best = std::min(best, write_plain(plain, size, i % 2 == 0));
    line_["disk_write"] = best;
    forget_files();
    std::vector<char> buffer(kPiece);
    line_["disk_read"] = timed([&] {
      const int from = open(plain.c_str(), O_RDONLY);
      while (::read(from, buffer.data(), buffer.size()) > 0) {
      }
      close(from);
    });
  }

  static int64_t status_bytes(const std::string& field) {
    std::ifstream in("/proc/self/status");
    for (std::string name; in >> name;)
      if (name == field + ":") {
        int64_t kilobytes = 0;
        in >> kilobytes;
        return kilobytes << 10;
      }
    throw StorageError("/proc/self/status: has no {}", field);
  }

  // A first save and one of differences, both behind the back of the caller: most memory beyond what was there before
  // and the copy, and how long the calls take beyond the copy.
  void memory() {
    CheckpointOptions o = options();
    o.async = true;
    Checkpointer checkpointer(all_, o, pool_);
    for (const char* which : {"first", "second"}) {
      const int64_t before = status_bytes("VmRSS");
      std::ofstream("/proc/self/clear_refs") << "5";
      all_.barrier("begin")->wait_host();
      const auto begin = Clock::now();
      checkpointer.save(state_, line_.size() + 1, "{}");
      const double call = seconds_since(begin);
      const SaveReport report = checkpointer.reports(true).front();
      if (!report.error.empty()) throw StorageError("{}", report.error);
      const bool copy_is_new = which == std::string("first");
      const double extra =
          static_cast<double>(status_bytes("VmHWM") - before) - (copy_is_new ? static_cast<double>(state_.size()) : 0);
      const std::vector<double> mine = {extra / (1 << 20), call - report.snapshot, report.snapshot, report.writing};
      const std::vector<double> most = max_doubles(all_, mine, "memory");
      line_[which] = {{"extra_mib", most[0]},
                      {"beyond_copy", most[1]},
                      {"copy", most[2]},
                      {"written", most[3]},
                      {"differences", report.stats.differences},
                      {"stored", report.stats.stored}};
      state_.nudge();
    }
    if (is_first()) fs::remove_all(asked_.dir);
  }

  Communicator& all_;
  const Request& asked_;
  ThreadPool pool_;
  AdamState state_;
  nlohmann::json line_ = nlohmann::json::object();
};

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"checkpoints of a large state"};
  deepflow::Request asked;
  app.add_option("what", asked.what)->required()->check(CLI::IsMember({"make", "times", "memory"}));
  app.add_option("--state", asked.state, "folder with the values")->required();
  app.add_option("--dir", asked.dir, "folder for checkpoints");
  app.add_option("--codec", asked.codec);
  app.add_option("--layers", asked.layers, "of 50 MB each");
  app.add_option("--threads", asked.threads, "that compress and write, of a rank");
  CLI11_PARSE(app, argc, argv);
  return deepflow::run_world({}, [&](deepflow::World& world) {
    const nlohmann::json line = deepflow::Bench(world, asked).run();
    if (world.rank() == 0) std::printf("%s\n", line.dump().c_str());
    return 0;
  });
}
