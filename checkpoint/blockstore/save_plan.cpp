#include "checkpoint/blockstore/save_plan.h"

#include "checkpoint/blockstore/block_index.h"
#include "checkpoint/boxes.h"
#include "core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <tuple>

namespace deepflow {
namespace {

using Json = nlohmann::json;

constexpr int64_t kPartsOfWriter = 16;  // larger ones are cut, so that the loads come out even

struct Holder {
  int rank;
  size_t entry;
};
using BoxKey = std::pair<std::vector<int64_t>, std::vector<int64_t>>;
// What is held of a tensor and by whom; of sums, by contributor.
using Holders = std::map<std::pair<int, BoxKey>, std::vector<Holder>>;

struct Held {
  const HeldEntry* first;
  Holders of_box;
};

std::map<std::string, Held> gather(const std::vector<std::vector<HeldEntry>>& of_rank) {
  std::map<std::string, Held> tensors;
  for (size_t rank = 0; rank < of_rank.size(); ++rank)
    for (size_t e = 0; e < of_rank[rank].size(); ++e) {
      const HeldEntry& entry = of_rank[rank][e];
      Held& held = tensors.try_emplace(entry.name, Held{&entry, {}}).first->second;
      const HeldEntry& first = *held.first;
      if (!(first.shape == entry.shape) || first.dtype != entry.dtype || first.rule != entry.rule)
        throw ConfigError("checkpoint: rank {} has {} as {} {}, another rank as {} {}", rank, entry.name,
                          name_of(entry.dtype), entry.shape.to_string(), name_of(first.dtype), first.shape.to_string());
      const int contributor = entry.rule == Reshard::kSum ? entry.contributor : 0;
      for (const Box& box : entry.boxes) {
        std::vector<Holder>& holders = held.of_box[{contributor, {box.lo, box.hi}}];
        if (holders.empty() || holders.back().rank != static_cast<int>(rank))
          holders.push_back({static_cast<int>(rank), e});
      }
    }
  return tensors;
}

// A part that any of its holders may write.
struct Part {
  size_t tensor;
  int contributor;
  Box box;
  int64_t bytes;
  const std::vector<Holder>* holders;
};

std::vector<Part> parts_of(const std::map<std::string, Held>& tensors, int64_t most_bytes) {
  std::vector<Part> parts;
  size_t number = 0;
  for (const auto& [name, held] : tensors) {
    const auto element = static_cast<int64_t>(size_of(held.first->dtype));
    std::map<int, std::vector<Box>> taken;
    for (const auto& [key, holders] : held.of_box) {
      const Box whole{key.second.first, key.second.second};
      std::vector<Box>& before = taken[key.first];
      for (const Box& free : without(std::vector<Box>{whole}, before)) {
        const int64_t bytes = free.num_elements() * element;
        // Nothing is gained by cutting what one rank with one writer has.
        for (const Box& box : cut(free, std::max(kBlockBytes, std::min(bytes, most_bytes)) / element))
          parts.push_back({number, key.first, box, box.num_elements() * element, &holders});
      }
      before.push_back(whole);
    }
    ++number;
  }
  return parts;
}

class Loads {
 public:
  Loads(size_t ranks, int writers_per_rank)
      : writers_per_rank_(writers_per_rank), bytes_(ranks * static_cast<size_t>(writers_per_rank), 0) {}

  // Of the holders' writers the one with the least; of those the first.
  std::pair<int, size_t> take(const Part& part) {
    int best = -1;
    size_t entry = 0;
    for (const Holder& h : *part.holders)
      for (int w = h.rank * writers_per_rank_; w < (h.rank + 1) * writers_per_rank_; ++w)
        if (best < 0 || bytes_[static_cast<size_t>(w)] < bytes_[static_cast<size_t>(best)]) best = w, entry = h.entry;
    bytes_[static_cast<size_t>(best)] += part.bytes;
    return {best, entry};
  }

 private:
  int writers_per_rank_;
  std::vector<int64_t> bytes_;
};

// Those with the fewest holders first, the largest first among them.
std::vector<size_t> in_order_of_choice(const std::vector<Part>& parts) {
  std::vector<size_t> order(parts.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::make_tuple(parts[a].holders->size(), -parts[a].bytes) <
           std::make_tuple(parts[b].holders->size(), -parts[b].bytes);
  });
  return order;
}

}  // namespace

std::vector<HeldEntry> held_entries(StateOwner& owner) {
  std::vector<HeldEntry> entries;
  owner.visit_state([&](StateEntry& e) {
    entries.push_back({e.name, e.value.dtype(), e.shape, e.rule, e.contributor, e.boxes});
  });
  return entries;
}

std::string to_text(const std::vector<HeldEntry>& entries) {
  Json list = Json::array();
  for (const HeldEntry& e : entries) {
    Json boxes = Json::array();
    for (const Box& box : e.boxes) boxes.push_back({box.lo, box.hi});
    list.push_back({e.name, static_cast<int>(e.dtype), std::vector<int64_t>(e.shape.begin(), e.shape.end()),
                    static_cast<int>(e.rule), e.contributor, std::move(boxes)});
  }
  return list.dump();
}

std::vector<HeldEntry> entries_from_text(const std::string& text) {
  std::vector<HeldEntry> entries;
  for (const Json& json : Json::parse(text)) {
    const auto extents = json[2].get<std::vector<int64_t>>();
    HeldEntry e{json[0].get<std::string>(),
                static_cast<DType>(json[1].get<int>()),
                Shape(extents.begin(), extents.end()),
                static_cast<Reshard>(json[3].get<int>()),
                json[4].get<int>(),
                {}};
    for (const Json& box : json[5])
      e.boxes.push_back({box[0].get<std::vector<int64_t>>(), box[1].get<std::vector<int64_t>>()});
    entries.push_back(std::move(e));
  }
  return entries;
}

int64_t SavePlan::bytes_of_rank(int rank, int writers_per_rank) const {
  int64_t sum = 0;
  for (const PlannedSlice& s : slices)
    if (s.writer / writers_per_rank == rank)
      sum += s.box.num_elements() * static_cast<int64_t>(size_of(tensors[s.tensor].dtype));
  return sum;
}

SavePlan plan_save(const std::vector<std::vector<HeldEntry>>& of_rank, int writers_per_rank) {
  const std::map<std::string, Held> tensors = gather(of_rank);
  SavePlan plan;
  plan.num_writers = static_cast<int>(of_rank.size()) * writers_per_rank;
  int64_t bytes = 0;
  for (const auto& [name, held] : tensors) {
    StoredTensor t;
    t.name = name, t.dtype = held.first->dtype, t.shape = held.first->shape, t.rule = held.first->rule;
    bytes += t.shape.num_elements() * static_cast<int64_t>(size_of(t.dtype));
    plan.tensors.push_back(std::move(t));
  }
  const std::vector<Part> parts =
      parts_of(tensors, std::max(kBlockBytes, bytes / (kPartsOfWriter * plan.num_writers) / kBlockBytes * kBlockBytes));
  Loads loads(of_rank.size(), writers_per_rank);
  plan.slices.resize(parts.size());
  for (const size_t i : in_order_of_choice(parts)) {
    const auto [writer, entry] = loads.take(parts[i]);
    plan.slices[i] = {parts[i].tensor, parts[i].contributor, parts[i].box, writer, entry};
  }
  return plan;
}

}  // namespace deepflow
