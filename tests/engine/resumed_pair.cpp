#include "tests/engine/resumed_pair.h"

#include "checkpoint/checkpointer.h"
#include "tests/engine/logical_state.h"

#include <optional>

namespace deepflow::testing {
namespace {

CheckpointOptions options_in(const std::string& dir, const LayoutPair& pair) {
  CheckpointOptions o = pair.checkpoint;
  o.dir = dir;
  o.every = 1;
  return o;
}

// A run on the first ranks, and nothing on the others.
class PartOfWorld {
 public:
  PartOfWorld(const TinyOptions& options, int ranks, Communicator& world)
      : world_(world), comm_(first_ranks(world, ranks)) {
    if (comm_) run_ = std::make_unique<TinyRun>(options, comm_.get());
  }
  ~PartOfWorld() { world_.barrier("end of a run")->wait_host(); }
  PartOfWorld(const PartOfWorld&) = delete;
  PartOfWorld& operator=(const PartOfWorld&) = delete;

  TinyRun* run() { return run_.get(); }
  Communicator& comm() { return *comm_; }
  Course train(int steps) { return run_ ? take_course(*run_, steps) : Course(); }
  LogicalState state() { return gather_state(run_ ? &run_->trainer() : nullptr, world_); }

 private:
  Communicator& world_;
  std::unique_ptr<Communicator> comm_;
  std::unique_ptr<TinyRun> run_;
};

void report_failures(Checkpointer& checkpointer, ResumedPair& result) {
  for (const SaveReport& report : checkpointer.reports(true))
    if (!report.error.empty()) result.faults.push_back(report.error);
}

LogicalState save(const LayoutPair& pair, Communicator& world, const std::string& dir, ResumedPair& result) {
  PartOfWorld part(pair.first, pair.first_ranks, world);
  result.course = part.train(pair.steps_before);
  LogicalState state = part.state();
  if (!part.run()) return state;
  Checkpointer checkpointer(part.comm(), options_in(dir, pair), part.run()->session().runtime().pool());
  checkpointer.save(part.run()->trainer(), pair.steps_before, "{}");
  part.train(1);
  report_failures(checkpointer, result);
  return state;
}

void load(PartOfWorld& part, Checkpointer& checkpointer, int64_t step, ResumedPair& result) {
  const std::optional<Resumed> resumed = checkpointer.resume(part.run()->trainer());
  if (!resumed || resumed->step != step || !resumed->passed_by.empty()) result.faults.emplace_back("not resumed");
}

// Also saves what it has resumed, while it trains on.
LogicalState resume(const LayoutPair& pair, Communicator& world, const std::string& dir, ResumedPair& result) {
  PartOfWorld part(pair.second, pair.second_ranks, world);
  std::optional<Checkpointer> checkpointer;
  if (part.run()) {
    checkpointer.emplace(part.comm(), options_in(dir, pair), part.run()->session().runtime().pool());
    load(part, *checkpointer, pair.steps_before, result);
  }
  LogicalState state = part.state();
  if (checkpointer) checkpointer->save(part.run()->trainer(), pair.steps_before + 1, "{}");
  result.course.append(part.train(pair.steps_after));
  if (checkpointer) report_failures(*checkpointer, result);
  return state;
}

// Back on the first layout, from a checkpoint that may refer to blocks of the one before.
LogicalState resume_again(const LayoutPair& pair, Communicator& world, const std::string& dir, ResumedPair& result) {
  PartOfWorld part(pair.first, pair.first_ranks, world);
  if (part.run()) {
    Checkpointer checkpointer(part.comm(), options_in(dir, pair), part.run()->session().runtime().pool());
    load(part, checkpointer, pair.steps_before + 1, result);
  }
  return part.state();
}

Course uninterrupted(const LayoutPair& pair, Communicator& world) {
  if (pair.first.train.precision != "f32") return PartOfWorld(pair.first, pair.first_ranks, world).train(pair.steps());
  Course course;
  if (world.rank() == 0) course = course_of_one_rank(pair.first, pair.steps());
  world.barrier("one rank")->wait_host();
  return course;
}

}  // namespace

std::unique_ptr<Communicator> first_ranks(Communicator& world, int count) {
  const bool is_one = world.rank() < count;
  std::unique_ptr<Communicator> comm = world.split(is_one ? 0 : 1, world.rank(), "first ranks");
  return is_one ? std::move(comm) : nullptr;
}

ResumedPair run_pair(const LayoutPair& pair, Communicator& world, const std::string& dir) {
  ResumedPair result;
  const LogicalState saved = save(pair, world, dir, result);
  for (const LogicalState& resumed : {resume(pair, world, dir, result), resume_again(pair, world, dir, result)})
    for (const std::string& difference : differences(saved, resumed)) result.faults.push_back(difference);
  result.expected = uninterrupted(pair, world);
  return result;
}

}  // namespace deepflow::testing
