#include "parallel/mpi_queue.h"

#include "core/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace deepflow {
namespace {

// Messages of a pair meet in the order in which they are posted, per tag. Pieces in flight need different tags because
// their second halves may start in any order; MPI guarantees tags up to 32767.
constexpr int kWindow = 16;
constexpr int kNumbers = 256;
constexpr int kBatchTag = kNumbers * kWindow * 2;
constexpr int64_t kWindowBytes = int64_t{16} << 20;

int tag_of(const FlightRecorder::Entry& entry, int64_t piece, bool second) {
  if (entry.kind == CommKind::kBatch) return kBatchTag + static_cast<int>(piece);
  const auto number = static_cast<int>(entry.number % kNumbers), slot = static_cast<int>(piece % kWindow);
  return (number * kWindow + slot) * 2 + (second ? 1 : 0);
}

}  // namespace

MpiQueue::MpiQueue(std::string name, Members members, const CommOptions& options, std::shared_ptr<MpiSignal> signal,
                   std::shared_ptr<StagingPool> staging)
    : name_(std::move(name)),
      members_(std::move(members)),
      options_(options),
      signal_(std::move(signal)),
      staging_(std::move(staging)),
      recorder_(std::make_shared<FlightRecorder>(name_)) {}

std::shared_ptr<MpiOperation> MpiQueue::enqueue(Call call) {
  const std::lock_guard lock(mutex_);
  const FlightRecorder::Entry entry = recorder_->queued(call.kind, call.name, call.bytes);
  if (options_.check_collectives)
    call.work.plan =
        plan_checked(std::move(call.work.plan), std::move(call.headers), members_.rank, members_.world_ranks);
  auto operation = std::make_shared<MpiOperation>(entry, std::move(call.work), recorder_, signal_);
  if (!broken_.empty()) {
    operation->fail(broken_);
    return operation;
  }
  incoming_.push_back(operation);
  signal_->wake();
  return operation;
}

bool MpiQueue::broken() const {
  const std::lock_guard lock(mutex_);
  return !broken_.empty();
}

void MpiQueue::fail_later(const std::string& error) {
  const std::lock_guard lock(mutex_);
  broken_ = error;
  fail_asked_ = true;
  signal_->wake();
}

void MpiQueue::collect() {
  std::unique_lock lock(mutex_);
  if (operations_.empty() && !incoming_.empty()) last_move_ = FlightRecorder::now();
  for (auto& operation : incoming_) operations_.push_back(std::move(operation));
  incoming_.clear();
  const bool asked = std::exchange(fail_asked_, false);
  const std::string error = broken_;
  lock.unlock();
  if (asked) fail(error);
}

bool MpiQueue::advance() {
  const size_t begun = flight_.size();
  try {
    begin_pieces();
    bool moved = flight_.size() != begun;
    for (InFlight& f : flight_) moved |= step(f);
    if (moved) {
      retire();
      last_move_ = FlightRecorder::now();
    }
    return moved;
  } catch (const std::exception& error) {
    fail(fmt::format("{} of communicator `{}`: {}", current_->describe(), name_, error.what()));
    return true;
  }
}

void MpiQueue::begin_pieces() {
  while (may_begin()) begin_piece();
}

bool MpiQueue::may_begin() const {
  if (next_operation_ == operations_.size()) return false;
  if (flight_.empty()) return true;
  return flight_.size() < kWindow && bytes_in_flight_ < kWindowBytes && !flight_.back().piece.alone;
}

void MpiQueue::begin_piece() {
  MpiOperation& operation = *operations_[next_operation_];
  current_ = &operation;
  if (next_piece_ == 0) operation.begin();
  InFlight& f = flight_.emplace_back();
  f.operation = &operation;
  f.index = next_piece_;
  f.piece = operation.piece(next_piece_, *staging_);
  for (const Message& m : f.piece.first) f.bytes += m.bytes;
  bytes_in_flight_ += f.bytes;
  post(f, f.piece.first);
  if (++next_piece_ == operation.num_pieces()) {
    ++next_operation_;
    next_piece_ = 0;
  }
}

void MpiQueue::post(InFlight& f, const std::vector<Message>& messages) {
  int64_t sent = 0, received = 0;
  for (const Message& m : messages) (m.send ? sent : received) += m.bytes;
  sent_ += sent;
  received_ += received;
  f.requests.post(messages, members_.comm, tag_of(f.operation->entry(), f.index, f.second),
                  options_.limits.message_bytes);
}

bool MpiQueue::step(InFlight& f) {
  if (f.done) return false;
  current_ = f.operation;
  bool moved = f.requests.test();
  if (!f.requests.done()) return moved;
  if (!f.second) {
    if (f.piece.middle) f.piece.middle();
    f.second = true;
    post(f, f.piece.second);
    f.requests.test();
  }
  f.done = f.requests.done();
  return true;
}

void MpiQueue::retire() {
  while (!flight_.empty() && flight_.front().done) {
    const InFlight& f = flight_.front();
    MpiOperation* const operation = f.operation;
    const bool last = f.index + 1 == operation->num_pieces();
    bytes_in_flight_ -= f.bytes;
    flight_.pop_front();
    if (!last) continue;
    current_ = operation;
    operation->finish();
    operations_.pop_front();
    --next_operation_;
  }
}

void MpiQueue::check_timeout(double now) {
  for (const auto& operation : operations_) {
    const double since = operation->waited_since();
    if (since == 0) continue;
    const double stalled = now - std::max(since, last_move_);
    if (stalled > options_.timeout) fail(stall(*operation, stalled));
    return;
  }
}

std::string MpiQueue::stall(const MpiOperation& waited, double seconds) const {
  const MpiOperation& head = *operations_.front();
  std::string text = fmt::format("waited {:.0f} s in {} of communicator `{}`", seconds, waited.describe(), name_);
  if (&head != &waited) text += fmt::format(", which stands behind {}", head.describe());
  std::vector<int> missing;
  for (const InFlight& f : flight_)
    if (f.operation == &head)
      for (const int peer : f.requests.missing()) missing.push_back(members_.world_ranks[static_cast<size_t>(peer)]);
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  const bool started = !flight_.empty() && (flight_.front().index > 0 || flight_.front().second);
  return text + fmt::format("; rank{} {} {}; see why, or raise parallel.comm_timeout", missing.size() == 1 ? "" : "s",
                            fmt::join(missing, ", "), started ? "stopped in the middle of it" : "never arrived");
}

void MpiQueue::fail(const std::string& error) {
  {
    const std::lock_guard lock(mutex_);
    if (broken_.empty()) broken_ = error;
    for (auto& operation : incoming_) operations_.push_back(std::move(operation));
    incoming_.clear();
  }
  for (const auto& operation : operations_) operation->fail(error);
  for (InFlight& f : flight_) abandoned_.push_back(std::move(f));
  for (auto& operation : operations_) abandoned_operations_.push_back(std::move(operation));
  flight_.clear();
  operations_.clear();
  next_operation_ = 0;
  next_piece_ = bytes_in_flight_ = 0;
}

}  // namespace deepflow
