#include "checkpoint/checkpointer.h"

#include "checkpoint/blockstore/state_loader.h"
#include "checkpoint/boxes.h"
#include "core/error.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <sstream>

namespace deepflow {
namespace {

constexpr int kNice = 10;  // compression gives way to training
constexpr int64_t kCopyGrain = 1 << 20;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The same on every rank, however few of them it went wrong on: the first rank's words.
std::string first_error(Communicator& comm, const std::string& mine) {
  const std::vector<std::string> all = gather_texts(comm, mine, "checkpoint read");
  for (size_t rank = 0; rank < all.size(); ++rank)
    if (!all[rank].empty()) return all[rank];
  return "";
}

// Where the values of a box lie together in an entry that is large, and so no value that only the visit holds.
const char* place_of(const StateEntry& e, const Box& box) {
  constexpr size_t kLarge = size_t{1} << 20;
  if (e.value.num_bytes() < kLarge) return nullptr;
  int64_t runs = 0, first = 0;
  for_each_shared_run(e.boxes, {box}, [&](const SharedRun& run) {
    ++runs;
    first = run.a;
  });
  const auto element = static_cast<int64_t>(size_of(e.value.dtype()));
  return runs == 1 ? static_cast<const char*>(e.value.raw()) + first * element : nullptr;
}

}  // namespace

// Host memory of the snapshot, touched once and then kept.
struct Checkpointer::Copy {
  std::unique_ptr<char[]> bytes;
  size_t size = 0;
};

Checkpointer::Checkpointer(Communicator& all, CheckpointOptions options, const ThreadPool& pool)
    : options_(std::move(options)),
      pool_(pool),
      comm_(all.duplicate("checkpoint")),
      copy_(std::make_unique<Copy>()),
      done_(std::make_unique<std::atomic<bool>>(false)) {}

Checkpointer::~Checkpointer() { join(); }

void Checkpointer::join() {
  if (!thread_.joinable()) return;
  thread_.join();
  ended_.push_back(under_way_);
}

std::vector<SaveReport> Checkpointer::reports(bool wait) {
  if (wait || done_->load()) join();
  return std::exchange(ended_, {});
}

void Checkpointer::make_plan(StateOwner& owner) {
  if (plan_) return;
  std::vector<std::vector<HeldEntry>> of_rank;
  for (const std::string& text : gather_texts(*comm_, to_text(held_entries(owner)), "checkpoint plan"))
    of_rank.push_back(entries_from_text(text));
  plan_ = plan_save(of_rank, options_.threads);
  for (size_t i = 0; i < plan_->slices.size(); ++i)
    if (plan_->slices[i].writer / options_.threads == comm_->rank()) snapshot_.slices.push_back(i);
  // As they are visited, so that a load by the same layout reads files from front to back.
  std::stable_sort(snapshot_.slices.begin(), snapshot_.slices.end(),
                   [&](size_t x, size_t y) { return plan_->slices[x].entry < plan_->slices[y].entry; });
}

void Checkpointer::copy_state(StateOwner& owner) {
  const auto bytes = static_cast<size_t>(plan_->bytes_of_rank(comm_->rank(), options_.threads));
  if (copy_->size < bytes) *copy_ = {std::unique_ptr<char[]>(new char[bytes]), bytes};
  std::vector<std::vector<size_t>> of_entry;  // numbers in the snapshot
  for (size_t i = 0; i < snapshot_.slices.size(); ++i) {
    const size_t entry = plan_->slices[snapshot_.slices[i]].entry;
    if (of_entry.size() <= entry) of_entry.resize(entry + 1);
    of_entry[entry].push_back(i);
  }
  snapshot_.values.assign(snapshot_.slices.size(), {});
  size_t number = 0;
  char* to = copy_->bytes.get();
  owner.visit_state([&](StateEntry& e) {
    if (number < of_entry.size())
      for (const size_t i : of_entry[number]) {
        const Box& box = plan_->slices[snapshot_.slices[i]].box;
        const auto element = static_cast<int64_t>(size_of(e.value.dtype()));
        const char* from = static_cast<const char*>(e.value.raw());
        const auto size = static_cast<size_t>(box.num_elements() * element);
        if (const char* place = options_.async ? nullptr : place_of(e, box)) {
          snapshot_.values[i] = {place, size};
          in_place_.push_back(e.value);
          continue;
        }
        for_each_shared_run(e.boxes, {box}, [&](const SharedRun& run) {
          pool_.parallel_for(run.count * element, kCopyGrain, [&](int64_t begin, int64_t end) {
            std::memcpy(to + run.b * element + begin, from + run.a * element + begin, static_cast<size_t>(end - begin));
          });
        });
        snapshot_.values[i] = {to, size};
        to += size;
      }
    ++number;
  });
}

void Checkpointer::save(StateOwner& owner, int64_t step, const std::string& run) {
  const auto begin = std::chrono::steady_clock::now();
  join();
  const double waited = seconds_since(begin);
  make_plan(owner);
  const auto copying = std::chrono::steady_clock::now();
  copy_state(owner);
  const double copied = seconds_since(copying);
  snapshot_.step = step;
  snapshot_.run = run;
  done_->store(false);
  thread_ = std::thread([this, waited, copied] {
    use_any_cpu();
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice);
    under_way_ = write_checkpoint(*comm_, options_, *plan_, snapshot_, earlier_);
    under_way_.waited = waited;
    under_way_.snapshot = copied;
    done_->store(true);
  });
  if (options_.async) return;
  join();
  in_place_.clear();
}

// Of rank 0: checkpoints to try, the best first.
std::vector<std::string> Checkpointer::candidates() const {
  std::vector<std::string> paths;
  const bool automatic = options_.resume == "auto";
  const bool is_one = !automatic && std::filesystem::exists(options_.resume + "/" + kCommitName);
  if (is_one) return {options_.resume};
  std::error_code is_none;
  if (automatic || std::filesystem::is_directory(options_.resume, is_none))
    for (const FoundCheckpoint& c : list_checkpoints(automatic ? options_.dir : options_.resume))
      paths.insert(paths.begin(), c.path);
  if (!automatic && paths.empty())
    throw ConfigError(
        "checkpoint.resume: {} is no checkpoint, and there is none in it; list them with: deepflow ckpt "
        "list DIR",
        options_.resume);
  return paths;
}

std::vector<std::string> Checkpointer::agreed_candidates() const {
  if (options_.resume == "never") return {};
  std::string found, error;
  if (comm_->rank() == 0) try {
      for (const std::string& path : candidates()) found += path + "\n";
    } catch (const Error& e) {
      error = e.what();
    }
  error = broadcast_text(*comm_, error, 0, "checkpoints");
  if (!error.empty()) throw ConfigError("{}", error);
  return lines_of(broadcast_text(*comm_, found, 0, "checkpoints"));
}

std::string Checkpointer::peek() const {
  const std::vector<std::string> paths = agreed_candidates();
  std::string run;
  if (comm_->rank() == 0 && !paths.empty()) try {
      run = StoredCheckpoint(paths.front()).manifest().run;
    } catch (const Error&) {  // resume will say so
    }
  return broadcast_text(*comm_, run, 0, "checkpoint's run");
}

std::optional<Resumed> Checkpointer::resume(StateOwner& owner) {
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<std::string> paths = agreed_candidates();
  if (paths.empty()) {
    refuse_newer_than(0);
    return std::nullopt;
  }
  make_plan(owner);
  Resumed resumed;
  std::vector<std::string> damaged;
  for (const std::string& path : paths) {
    const std::string damage = try_to_load(owner, path, resumed);
    if (damage.empty()) {
      resumed.path = path;
      set_damaged_aside(damaged);
      refuse_newer_than(resumed.step);
      resumed.seconds = seconds_since(begin);
      return resumed;
    }
    resumed.passed_by.push_back(damage);
    damaged.push_back(path);
    if (options_.resume != "auto") throw DataError("{}", damage);
  }
  throw DataError(
      "checkpoint.resume: no checkpoint in {} is whole ({}); to begin anew take another checkpoint.dir, or remove them",
      options_.dir, resumed.passed_by.front());
}

void Checkpointer::set_damaged_aside(const std::vector<std::string>& paths) {
  std::string error;
  if (comm_->rank() == 0) try {
      for (const std::string& path : paths) set_aside(path);
    } catch (const Error& e) {
      error = e.what();
    }
  error = broadcast_text(*comm_, error, 0, "damaged checkpoints");
  if (!error.empty()) throw StorageError("{}", error);
}

// What would be saved would be older than what is there, and the first to be pruned.
void Checkpointer::refuse_newer_than(int64_t step) const {
  std::string error;
  if (comm_->rank() == 0) try {
      const std::vector<FoundCheckpoint> all = list_checkpoints(options_.dir);
      if (options_.every > 0 && !all.empty() && all.back().step > step)
        error = fmt::format(
            "checkpoint.dir: {} has a checkpoint of step {}, and this run begins at step {}; take another "
            "checkpoint.dir, remove the newer ones, or continue from them with checkpoint.resume: auto",
            options_.dir, all.back().step, step);
    } catch (const Error& e) {
      error = e.what();
    }
  error = broadcast_text(*comm_, error, 0, "newer checkpoints");
  if (!error.empty()) throw ConfigError("{}", error);
}

// Returns what is damaged.
std::string Checkpointer::try_to_load(StateOwner& owner, const std::string& path, Resumed& resumed) {
  std::string text, error;
  if (comm_->rank() == 0) try {
      text = StoredCheckpoint::read_manifest(path);
    } catch (const Error& e) {
      error = e.what();
    }
  error = broadcast_text(*comm_, error, 0, "manifest");
  if (!error.empty()) return error;
  text = broadcast_text(*comm_, text, 0, "manifest");
  std::optional<StoredCheckpoint> checkpoint;
  try {
    checkpoint.emplace(path, text);
  } catch (const DataError& e) {
    return e.what();  // on all ranks
  }
  if (const std::string codec = checkpoint->manifest().lossy(); !codec.empty())
    throw ConfigError(
        "checkpoint.resume: {} is a lossy export ({}), its values are not those that were trained; resume from a "
        "checkpoint of the run, or take another checkpoint.dir",
        path, codec);
  check_same_tensors(*checkpoint, *plan_);
  int64_t bytes = 0;
  try {
    bytes = load_state(owner, *checkpoint, *plan_, &pool_);
  } catch (const Error& e) {
    error = e.what();
  }
  error = first_error(*comm_, error);
  if (!error.empty()) return error;
  resumed.step = checkpoint->manifest().step;
  resumed.run = checkpoint->manifest().run;
  resumed.bytes = sum_integers(*comm_, std::span(&bytes, 1), "checkpoint bytes").front();
  remember(*checkpoint);
  return "";
}

// Slices that this run will store just so may refer to what is there.
void Checkpointer::remember(const StoredCheckpoint& checkpoint) {
  std::error_code error;
  if (!std::filesystem::equivalent(checkpoint.dir(), options_.dir, error) || error) return;
  for (const size_t number : snapshot_.slices) {
    const PlannedSlice& planned = plan_->slices[number];
    const StoredTensor* tensor = checkpoint.manifest().find(plan_->tensors[planned.tensor].name);
    for (const StoredSlice& s : tensor->slices)
      if (s.contributor == planned.contributor && s.boxes.size() == 1 && s.boxes.front() == planned.box)
        earlier_.of_slice[number].blocks =
            earlier_blocks(checkpoint.index(s.file), checkpoint.data_of(s.file), s.first_block, s.num_blocks);
  }
}

}  // namespace deepflow
