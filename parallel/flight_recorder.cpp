#include "parallel/flight_recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace deepflow {

const char* name_of(CommKind kind) {
  static constexpr const char* kNames[] = {"all_reduce", "reduce_scatter", "all_gather", "all_to_all",
                                           "batch",      "broadcast",      "barrier",    "split"};
  return kNames[static_cast<int>(kind)];
}

FlightRecorder::FlightRecorder(std::string communicator, size_t capacity)
    : communicator_(std::move(communicator)), ring_(std::max<size_t>(1, capacity)) {}

double FlightRecorder::now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

FlightRecorder::Entry FlightRecorder::queued(CommKind kind, std::string_view name, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  Entry& entry = ring_[static_cast<size_t>(next_ticket_) % ring_.size()];
  entry = {};
  entry.ticket = next_ticket_++;
  entry.number = kind == CommKind::kBatch ? next_batch_++ : next_collective_++;
  entry.kind = kind;
  entry.name = name;
  entry.bytes = bytes;
  entry.queued = now();
  return entry;
}

void FlightRecorder::mark(int64_t ticket, State state) {
  const std::lock_guard lock(mutex_);
  Entry& entry = ring_[static_cast<size_t>(ticket) % ring_.size()];
  if (entry.ticket != ticket) return;  // overwritten by later ones
  entry.state = state;
  (state == State::kBegun ? entry.begun : entry.ended) = now();
}

std::vector<FlightRecorder::Entry> FlightRecorder::entries() const {
  const std::lock_guard lock(mutex_);
  std::vector<Entry> result;
  for (const Entry& entry : ring_)
    if (entry.ticket >= 0) result.push_back(entry);
  std::sort(result.begin(), result.end(), [](const Entry& a, const Entry& b) { return a.ticket < b.ticket; });
  return result;
}

std::string FlightRecorder::report() const {
  static constexpr const char* kStates[] = {"queued", "begun", "done", "failed"};
  const double time = now();
  std::string text;
  for (const Entry& entry : entries()) {
    text += fmt::format("`{}` #{} {} `{}` {} bytes, {}, queued {:.3f} s ago", communicator_, entry.number,
                        name_of(entry.kind), entry.name, entry.bytes, kStates[static_cast<int>(entry.state)],
                        time - entry.queued);
    if (entry.begun > 0) text += fmt::format(", begun {:.3f} s later", entry.begun - entry.queued);
    if (entry.ended > 0) text += fmt::format(", ended {:.3f} s later", entry.ended - entry.queued);
    text += '\n';
  }
  return text;
}

}  // namespace deepflow
