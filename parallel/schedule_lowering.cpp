#include "parallel/schedule_lowering.h"

#include "core/error.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace deepflow {
namespace {

using Key = std::tuple<int, int, bool>;  // of a channel
Key key_of(const Channel& c) { return {c.from, c.to, c.backward}; }

// The messages that leave behind a compute action.
std::vector<Action> sends_behind(const Schedule& schedule, const Action& compute) {
  std::vector<Action> sends;
  for (const ComputePart& part : parts_of(compute)) {
    if (part.f && schedule.has_border_after(part.chunk)) sends.push_back({Do::kSendF, part.chunk, part.micro_batch});
    if (part.b && part.chunk > 0 && schedule.has_border_after(part.chunk - 1))
      sends.push_back({Do::kSendB, part.chunk, part.micro_batch});
  }
  return sends;
}

Action receive_of(const Action& send) {
  const bool forward = send.what == Do::kSendF;
  return {forward ? Do::kRecvF : Do::kRecvB, send.chunk + (forward ? 1 : -1), send.micro_batch};
}

// Where in a rank's compute list things happen, as indices.
class Places {
 public:
  Places(const Schedule& schedule, int rank) : num_micro_batches_(schedule.num_micro_batches) {
    const size_t n = static_cast<size_t>(schedule.num_chunks()) * static_cast<size_t>(num_micro_batches_);
    f_.assign(n, -1);
    b_.assign(n, -1);
    const std::vector<Action>& list = schedule.of_rank[static_cast<size_t>(rank)];
    for (size_t i = 0; i < list.size(); ++i)
      for (const ComputePart& part : parts_of(list[i])) {
        if (part.f) f_[index(part.chunk, part.micro_batch)] = static_cast<int>(i);
        if (part.b) b_[index(part.chunk, part.micro_batch)] = static_cast<int>(i);
      }
  }
  int use_of(const Action& receive) const {
    return (receive.what == Do::kRecvF ? f_ : b_)[index(receive.chunk, receive.micro_batch)];
  }
  // A gradient cannot arrive before its own rank has sent the activation.
  int earliest(const Action& receive) const {
    return receive.what == Do::kRecvF ? 0 : f_[index(receive.chunk, receive.micro_batch)] + 1;
  }

 private:
  size_t index(int chunk, int micro_batch) const {
    return static_cast<size_t>(chunk) * static_cast<size_t>(num_micro_batches_) + static_cast<size_t>(micro_batch);
  }
  int num_micro_batches_;
  std::vector<int> f_, b_;
};

// Before which compute action of its rank each receive of one channel is posted. They are posted in the order of the
// sends; a buffer is free again behind the action that reads it.
std::vector<int> posting_places(const Places& places, const std::vector<Action>& receives, int buffers) {
  std::vector<int> uses, at;
  for (const Action& receive : receives) {
    uses.push_back(places.use_of(receive));
    DF_ASSERT(uses.back() >= 0, "{} has no reader", name_of(receive));
  }
  std::vector<int> freed = uses;
  std::sort(freed.begin(), freed.end());
  for (size_t k = 0; k < receives.size(); ++k) {
    const int buffer_free = k < static_cast<size_t>(buffers) ? 0 : freed[k - static_cast<size_t>(buffers)] + 1;
    at.push_back(std::min(uses[k], std::max(buffer_free, places.earliest(receives[k]))));
  }
  for (size_t k = at.size(); k-- > 1;) at[k - 1] = std::min(at[k - 1], at[k]);
  return at;
}

// Which chunks' parameters are in memory (ZeRO-3).
class Gathers {
 public:
  Gathers(const std::vector<Action>& list, int limit) : list_(list), limit_(static_cast<size_t>(limit)) {}

  // Puts what has to happen between compute actions i - 1 and i.
  void before(size_t i, std::vector<Action>& out) {
    const std::vector<int> wanted = wanted_from(i);
    for (auto it = gathered_.begin(); it != gathered_.end();) {
      if (std::find(wanted.begin(), wanted.end(), *it) != wanted.end()) {
        ++it;
        continue;
      }
      out.push_back({Do::kFree, *it, 0});
      it = gathered_.erase(it);
    }
    for (const int chunk : wanted)
      if (gathered_.insert(chunk).second) out.push_back({Do::kGather, chunk, 0});
  }

 private:
  // The next chunks that are read from action i on, nearest first: those of the next reader, then up to the limit.
  std::vector<int> wanted_from(size_t i) const {
    std::vector<int> wanted;
    for (; i < list_.size(); ++i) {
      const bool first = wanted.empty();
      for (const ComputePart& part : parts_of(list_[i])) {
        if (!(part.f || part.b) || std::find(wanted.begin(), wanted.end(), part.chunk) != wanted.end()) continue;
        if (first || wanted.size() < limit_) wanted.push_back(part.chunk);
      }
      if (wanted.size() >= limit_) break;
    }
    return wanted;
  }

  const std::vector<Action>& list_;
  size_t limit_;
  std::set<int> gathered_;
};

class Lowering {
 public:
  Lowering(const Schedule& schedule, int zero_level, const LowerLimits& limits)
      : schedule_(schedule), zero_(zero_level), limits_(limits) {
    for (const std::vector<Action>& list : schedule_.of_rank)
      for (const Action& action : list) {
        DF_ASSERT(is_compute(action.what), "{} is not for lower() to see", name_of(action));
        for (const Action& send : sends_behind(schedule_, action))
          receives_[key_of(channel_of(schedule_, send))].push_back(receive_of(send));
      }
  }

  std::vector<Action> list_of(int rank) const {
    const std::vector<Action>& list = schedule_.of_rank[static_cast<size_t>(rank)];
    const std::vector<std::vector<Action>> receives = receives_before(rank);
    const std::vector<bool> completes = completing(list);
    Gathers gathers(list, limits_.gathered_chunks);
    std::vector<Action> out;
    for (size_t i = 0; i < list.size(); ++i) {
      if (zero_ >= 3) gathers.before(i, out);
      out.insert(out.end(), receives[i].begin(), receives[i].end());
      out.push_back(list[i]);
      for (const Action& send : sends_behind(schedule_, list[i])) out.push_back(send);
      for (const ComputePart& part : parts_of(list[i]))
        if (part.w && (zero_ >= 2 || completes[i])) out.push_back({Do::kReduce, part.chunk, part.micro_batch});
    }
    if (zero_ >= 3) gathers.before(list.size(), out);
    return out;
  }

 private:
  std::vector<std::vector<Action>> receives_before(int rank) const {
    std::vector<std::vector<Action>> before(schedule_.of_rank[static_cast<size_t>(rank)].size());
    const Places places(schedule_, rank);
    for (const auto& entry : receives_) {
      if (std::get<1>(entry.first) != rank) continue;
      const std::vector<int> at = posting_places(places, entry.second, limits_.receive_buffers);
      for (size_t k = 0; k < at.size(); ++k) before[static_cast<size_t>(at[k])].push_back(entry.second[k]);
    }
    return before;
  }

  // Whether the weight gradient in each action is its chunk's last.
  std::vector<bool> completing(const std::vector<Action>& list) const {
    std::vector<bool> completes(list.size(), false);
    std::set<int> seen;
    for (size_t i = list.size(); i-- > 0;)
      for (const ComputePart& part : parts_of(list[i]))
        if (part.w && seen.insert(part.chunk).second) completes[i] = true;
    return completes;
  }

  const Schedule& schedule_;
  const int zero_;
  const LowerLimits limits_;
  std::map<Key, std::vector<Action>> receives_;  // of each channel, in the order of its sends
};

}  // namespace

Channel channel_of(const Schedule& schedule, const Action& message) {
  const int here = schedule.rank_of(message.chunk);
  switch (message.what) {
    case Do::kSendF:
      return {here, schedule.rank_of(message.chunk + 1), false};
    case Do::kRecvF:
      return {schedule.rank_of(message.chunk - 1), here, false};
    case Do::kSendB:
      return {here, schedule.rank_of(message.chunk - 1), true};
    case Do::kRecvB:
      return {schedule.rank_of(message.chunk + 1), here, true};
    default:
      DF_ASSERT(false, "{} is no message", name_of(message));
  }
}

std::vector<Channel> channels_of(const Schedule& schedule) {
  std::set<Key> keys;
  for (int chunk = 0; chunk < schedule.num_chunks(); ++chunk)
    if (schedule.has_border_after(chunk)) {
      keys.insert(key_of(channel_of(schedule, {Do::kSendF, chunk, 0})));
      keys.insert(key_of(channel_of(schedule, {Do::kSendB, chunk + 1, 0})));
    }
  std::vector<Channel> channels;
  for (const Key& key : keys) channels.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key)});
  return channels;
}

Schedule lower(const Schedule& compute_only, int zero_level, const LowerLimits& limits) {
  DF_ASSERT(limits.receive_buffers >= 1 && limits.gathered_chunks >= 1);
  const Lowering lowering(compute_only, zero_level, limits);
  Schedule lowered = compute_only;
  for (int rank = 0; rank < compute_only.num_ranks(); ++rank)
    lowered.of_rank[static_cast<size_t>(rank)] = lowering.list_of(rank);
  return lowered;
}

}  // namespace deepflow
