#include "parallel/schedule_simulator.h"

#include "core/error.h"
#include "parallel/schedule_lowering.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr double kNotYet = -1;

struct ChannelState {
  std::vector<Action> sends, receives;
  std::vector<double> sent, posted, arrived;
  std::vector<size_t> receive_place;  // in the list of the receiver
};

// What happened to one chunk and micro-batch, as times.
struct Progress {
  double f = kNotYet, b = kNotYet, w = kNotYet;
  bool sent_f = false, sent_b = false, reduced = false;
  int input = -1, gradient = -1;  // numbers of their receives on the channel
};

struct RankState {
  size_t next = 0;
  double now = 0, alive = 0, peak = 0;
  int64_t sent = 0;
  std::string waits_for;
};

class Simulator {
 public:
  Simulator(const Schedule& schedule, const SimulationCosts& costs, int zero_level, Pass pass)
      : schedule_(schedule),
        costs_(costs),
        zero_(zero_level),
        trains_(pass == Pass::kTraining),
        ranks_(schedule.of_rank.size()) {
    progress_.resize(static_cast<size_t>(schedule.num_chunks()) * static_cast<size_t>(schedule.num_micro_batches));
    channels_.resize(2 * ranks_.size() * ranks_.size());
    gathered_.resize(static_cast<size_t>(schedule.num_chunks()), false);
    num_w_.resize(gathered_.size(), 0);
    num_reduced_.resize(gathered_.size(), 0);
    times_.of_rank.resize(ranks_.size());
  }

  Simulation run() {
    for (bool moved = true; moved && error_.empty();) {
      moved = false;
      for (int rank = 0; rank < schedule_.num_ranks() && error_.empty(); ++rank)
        while (advance(rank)) moved = true;
    }
    if (error_.empty()) check_deadlock();
    if (error_.empty()) check_all_done();
    if (error_.empty()) check_channels();
    Simulation result{error_, {}, {}, {}};
    if (error_.empty()) set_arrivals();
    result.times = std::move(times_);
    for (const RankState& rank : ranks_) {
      result.peak_activations.push_back(rank.peak);
      result.messages_sent.push_back(rank.sent);
    }
    return result;
  }

 private:
  RankState& state(int rank) { return ranks_[static_cast<size_t>(rank)]; }
  const std::vector<Action>& list(int rank) const { return schedule_.of_rank[static_cast<size_t>(rank)]; }
  Progress& progress(int chunk, int micro_batch) {
    return progress_[static_cast<size_t>(chunk) * static_cast<size_t>(schedule_.num_micro_batches) +
                     static_cast<size_t>(micro_batch)];
  }
  ChannelState& channel(const Channel& c) {
    const int number = 2 * (c.from * schedule_.num_ranks() + c.to) + (c.backward ? 1 : 0);
    return channels_[static_cast<size_t>(number)];
  }
  const ChunkCost& cost(int chunk) const {
    return costs_.chunks.size() == 1 ? costs_.chunks.front() : costs_.chunks[static_cast<size_t>(chunk)];
  }

  // The first error stands.
  bool fail(int rank, const std::string& what) {
    if (!error_.empty()) return false;
    const size_t place = state(rank).next;
    const std::string action = place < list(rank).size() ? name_of(list(rank)[place]) : "end of its list";
    error_ = fmt::format("rank {}, action {} ({}): {}", rank, place, action, what);
    return false;
  }

  // Runs the rank's next action. False: it is at the end, has to wait, or made an error.
  bool advance(int rank) {
    RankState& r = state(rank);
    r.waits_for.clear();
    if (r.next == list(rank).size()) return false;
    const Action& action = list(rank)[r.next];
    if (!is_on_rank(rank, action.chunk, action.micro_batch)) return false;
    const double begin = r.now;
    const bool done = is_compute(action.what) ? compute(rank, action) : other(rank, action);
    if (!done) return false;
    const double start = is_compute(action.what) ? r.now - duration_of(action) : begin;
    times_.of_rank[static_cast<size_t>(rank)].push_back({action, start, r.now});
    ++r.next;
    return true;
  }

  bool is_on_rank(int rank, int chunk, int micro_batch) {
    if (chunk < 0 || chunk >= schedule_.num_chunks() || schedule_.rank_of(chunk) != rank)
      return fail(rank, fmt::format("chunk {} is not on this rank", chunk));
    if (micro_batch < 0 || micro_batch >= schedule_.num_micro_batches)
      return fail(rank, fmt::format("there is no micro-batch {}", micro_batch));
    return true;
  }

  double duration_of(const Action& action) const {
    double sum = 0;
    for (const ComputePart& part : parts_of(action)) {
      const ChunkCost& c = cost(part.chunk);
      sum += (part.f ? c.f : 0) + (part.b ? c.b : 0) + (part.w ? c.w : 0);
    }
    return action.what == Do::kOverlapFB ? sum * costs_.overlap : sum;
  }

  bool compute(int rank, const Action& action) {
    RankState& r = state(rank);
    double begin = r.now;
    for (const ComputePart& part : parts_of(action)) {
      if (!is_on_rank(rank, part.chunk, part.micro_batch)) return false;
      const double ready = ready_at(rank, part);
      if (ready == kNotYet) return false;
      begin = std::max(begin, ready);
    }
    r.now = begin + duration_of(action);
    for (const ComputePart& part : parts_of(action)) finish(r, part);
    return true;
  }

  void finish(RankState& r, const ComputePart& part) {
    Progress& p = progress(part.chunk, part.micro_batch);
    if (part.f) {
      p.f = r.now;
      if (trains_) r.peak = std::max(r.peak, r.alive += 1);
    }
    if (part.b) {
      p.b = r.now;
      r.alive -= costs_.released_by_b;
    }
    if (part.w) {
      p.w = r.now;
      r.alive -= 1 - costs_.released_by_b;
      ++num_w_[static_cast<size_t>(part.chunk)];
    }
  }

  // When what a part reads is there; kNotYet when it has to wait for another rank, or on an error.
  double ready_at(int rank, const ComputePart& part) {
    const Progress& p = progress(part.chunk, part.micro_batch);
    const auto refuse = [&](const char* what) {
      fail(rank, fmt::format("{} of c{} m{}", what, part.chunk, part.micro_batch));
      return kNotYet;
    };
    if ((part.f && p.f != kNotYet) || (part.b && p.b != kNotYet) || (part.w && p.w != kNotYet))
      return refuse("it ran before: twice the same part");
    if (!trains_ && !part.f) return refuse("a forward pass has no backward part");
    if ((part.f || part.b) && zero_ >= 3 && !gathered_[static_cast<size_t>(part.chunk)])
      return refuse("it reads parameters that are not gathered,");
    if (part.b && p.f == kNotYet) return refuse("backward comes before F");
    if (part.w && !part.b && p.b == kNotYet) return refuse("W comes before B");
    if (part.f) return part.chunk == 0 ? 0 : neighbour_ready(rank, part, part.chunk - 1, p.input);
    if (part.b && part.chunk + 1 < schedule_.num_chunks())
      return neighbour_ready(rank, part, part.chunk + 1, p.gradient);
    return 0;
  }

  double neighbour_ready(int rank, const ComputePart& part, int neighbour, int receive) {
    const int from = schedule_.rank_of(neighbour);
    const char* const kind = part.f ? "F" : "B";
    if (from == rank) {
      const Progress& p = progress(neighbour, part.micro_batch);
      const double at = part.f ? p.f : p.b;
      if (at == kNotYet) fail(rank, fmt::format("comes before {} c{} m{}", kind, neighbour, part.micro_batch));
      return at;
    }
    if (receive < 0) {
      fail(rank, fmt::format("no receive was posted for the result of {} c{} m{}", kind, neighbour, part.micro_batch));
      return kNotYet;
    }
    return arrival(rank, {from, rank, part.b}, static_cast<size_t>(receive));
  }

  // Messages of a channel arrive one behind the other.
  double arrival(int rank, const Channel& key, size_t number) {
    ChannelState& c = channel(key);
    for (size_t k = c.arrived.size(); k <= number; ++k) {
      if (c.sends.size() <= k) {
        state(rank).waits_for = fmt::format("message {} from rank {} ({})", k, key.from, name_of(c.receives[k]));
        return kNotYet;
      }
      if (!is_match(c, k)) {
        fail_match(key, c, k);
        return kNotYet;
      }
      const double there = std::max(c.sent[k], c.posted[k]) + costs_.message;
      c.arrived.push_back(c.arrived.empty() ? there : std::max(there, c.arrived.back()));
    }
    return c.arrived[number];
  }

  static bool is_match(const ChannelState& c, size_t k) {
    const int step = c.sends[k].what == Do::kSendF ? 1 : -1;
    return c.sends[k].chunk + step == c.receives[k].chunk && c.sends[k].micro_batch == c.receives[k].micro_batch;
  }

  void fail_match(const Channel& key, const ChannelState& c, size_t k) {
    if (!error_.empty()) return;
    error_ = fmt::format("rank {}, action {} ({}): message {} of its kind from rank {} is another one: {}", key.to,
                         c.receive_place[k], name_of(c.receives[k]), k, key.from, name_of(c.sends[k]));
  }

  bool other(int rank, const Action& action) {
    switch (action.what) {
      case Do::kSendF:
      case Do::kSendB:
        return send(rank, action);
      case Do::kRecvF:
      case Do::kRecvB:
        return receive(rank, action);
      case Do::kReduce:
        return reduce(rank, action);
      default:
        return gather_or_free(rank, action);
    }
  }

  bool is_message(int rank, const Action& action) {
    const bool above = action.what == Do::kSendF || action.what == Do::kRecvB;
    const int lower_chunk = above ? action.chunk : action.chunk - 1;
    if (lower_chunk >= 0 && schedule_.has_border_after(lower_chunk)) return true;
    return fail(rank, "that chunk has no neighbour on another rank");
  }

  bool send(int rank, const Action& action) {
    if (!is_message(rank, action)) return false;
    Progress& p = progress(action.chunk, action.micro_batch);
    const bool forward = action.what == Do::kSendF;
    if ((forward ? p.f : p.b) == kNotYet) return fail(rank, "it is sent before it was made");
    bool& sent = forward ? p.sent_f : p.sent_b;
    if (sent) return fail(rank, "it was sent before");
    sent = true;
    ChannelState& c = channel(channel_of(schedule_, action));
    c.sends.push_back(action);
    c.sent.push_back(state(rank).now);
    ++state(rank).sent;
    return true;
  }

  bool receive(int rank, const Action& action) {
    if (!is_message(rank, action)) return false;
    Progress& p = progress(action.chunk, action.micro_batch);
    int& number = action.what == Do::kRecvF ? p.input : p.gradient;
    if (number >= 0) return fail(rank, "a receive was posted for it before");
    ChannelState& c = channel(channel_of(schedule_, action));
    number = static_cast<int>(c.receives.size());
    c.receives.push_back(action);
    c.posted.push_back(state(rank).now);
    c.receive_place.push_back(state(rank).next);
    return true;
  }

  bool reduce(int rank, const Action& action) {
    const size_t chunk = static_cast<size_t>(action.chunk);
    Progress& p = progress(action.chunk, action.micro_batch);
    if (zero_ >= 2 && p.w == kNotYet) return fail(rank, "its weight gradient is not there");
    if (zero_ < 2 && num_w_[chunk] < schedule_.num_micro_batches)
      return fail(rank, fmt::format("{} of {} weight gradients are there", num_w_[chunk], schedule_.num_micro_batches));
    if (p.reduced || (zero_ < 2 && num_reduced_[chunk] > 0)) return fail(rank, "it was reduced before");
    p.reduced = true;
    ++num_reduced_[chunk];
    return true;
  }

  bool gather_or_free(int rank, const Action& action) {
    const bool gathers = action.what == Do::kGather;
    if (gathered_[static_cast<size_t>(action.chunk)] == gathers)
      return fail(rank, gathers ? "it is gathered" : "it is not gathered");
    gathered_[static_cast<size_t>(action.chunk)] = gathers;
    return true;
  }

  void check_deadlock() {
    std::string waiting;
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      const RankState& r = state(rank);
      if (r.next == list(rank).size()) continue;
      waiting += fmt::format("{}rank {} waits at action {} ({}) for {}", waiting.empty() ? "" : "; ", rank, r.next,
                             name_of(list(rank)[r.next]), r.waits_for);
    }
    if (!waiting.empty()) error_ = "deadlock: " + waiting;
  }

  void check_all_done() {
    for (int chunk = 0; chunk < schedule_.num_chunks(); ++chunk) {
      const size_t c = static_cast<size_t>(chunk);
      const int rank = schedule_.rank_of(chunk);
      for (int m = 0; m < schedule_.num_micro_batches; ++m) {
        const Progress& p = progress(chunk, m);
        const char* const missing = p.f == kNotYet   ? "F"
                                    : !trains_       ? nullptr
                                    : p.b == kNotYet ? "B"
                                    : p.w == kNotYet ? "W"
                                                     : nullptr;
        if (missing) fail(rank, fmt::format("{} c{} m{} never ran", missing, chunk, m));
      }
      const int reductions = !trains_ ? 0 : zero_ >= 2 ? schedule_.num_micro_batches : 1;
      if (num_reduced_[c] != reductions)
        fail(rank, fmt::format("{} of {} reductions of c{} ran", num_reduced_[c], reductions, chunk));
      if (gathered_[c]) fail(rank, fmt::format("c{} is still gathered", chunk));
    }
  }

  void check_channels() {
    for (const Channel& key : channels_of(schedule_)) {
      const ChannelState& c = channel(key);
      if (c.sends.size() == c.receives.size()) continue;
      const bool more_sends = c.sends.size() > c.receives.size();
      const Action& left = more_sends ? c.sends[c.receives.size()] : c.receives[c.sends.size()];
      fail(more_sends ? key.from : key.to, fmt::format("{} has no counterpart", name_of(left)));
    }
  }

  void set_arrivals() {
    for (size_t rank = 0; rank < ranks_.size(); ++rank)
      for (TimedAction& t : times_.of_rank[rank]) {
        if (t.action.what != Do::kRecvF && t.action.what != Do::kRecvB) continue;
        const Progress& p = progress(t.action.chunk, t.action.micro_batch);
        const int number = t.action.what == Do::kRecvF ? p.input : p.gradient;
        t.end = channel(channel_of(schedule_, t.action)).arrived[static_cast<size_t>(number)];
      }
  }

  const Schedule& schedule_;
  const SimulationCosts& costs_;
  const int zero_;
  const bool trains_;
  std::vector<RankState> ranks_;
  std::vector<Progress> progress_;      // [chunk][micro-batch]
  std::vector<ChannelState> channels_;  // [from][to][kind]
  std::vector<bool> gathered_;          // per chunk
  std::vector<int> num_w_, num_reduced_;
  ScheduleTimes times_;
  std::string error_;
};

}  // namespace

Simulation simulate(const Schedule& lowered, const SimulationCosts& costs, int zero_level, Pass pass) {
  DF_ASSERT(costs.chunks.size() == 1 || static_cast<int>(costs.chunks.size()) == lowered.num_chunks());
  return Simulator(lowered, costs, zero_level, pass).run();
}

}  // namespace deepflow
