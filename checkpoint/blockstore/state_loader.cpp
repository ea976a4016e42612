#include "checkpoint/blockstore/state_loader.h"

#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/boxes.h"
#include "checkpoint/printable.h"
#include "core/error.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace deepflow {
namespace {

constexpr size_t kShown = 12;  // names in a message

// Who has what of a sum, in the order of the contributors.
using Contributions = std::map<int, std::vector<Box>>;

// Of the sums among a run's tensors, by name.
std::map<std::string, Contributions> contributions_of(const SavePlan& plan) {
  std::map<std::string, Contributions> found;
  for (const PlannedSlice& s : plan.slices) {
    const StoredTensor& tensor = plan.tensors[s.tensor];
    if (tensor.rule == Reshard::kSum) found[tensor.name][s.contributor].push_back(s.box);
  }
  return found;
}

struct Wanted {
  const StoredTensor* tensor;
  std::vector<Box> boxes;
};

std::vector<Wanted> wanted_of(StateOwner& owner, const StoredCheckpoint& checkpoint) {
  std::vector<Wanted> wanted;
  owner.visit_state([&](StateEntry& e) {
    const StoredTensor* tensor = checkpoint.manifest().find(e.name);
    DF_ASSERT(tensor, "{} was not compared with the checkpoint", e.name);
    wanted.push_back({tensor, e.boxes});
  });
  return wanted;
}

// The values of one entry of a sum, element by element: which of those who have an element takes a stored value of it
// goes by turns, since neither the stored nor the new contributors need all have all elements (experts).
class SumLoader {
 public:
  SumLoader(StateEntry& entry, const Contributions& now)
      : entry_(entry),
        count_(static_cast<size_t>(num_elements(entry.boxes))),
        takers_(count_, 0),
        place_(count_, 0),
        stored_(count_, 0) {
    for (const auto& [contributor, boxes] : now)
      for_each_shared_run(entry.boxes, boxes, [&, is_before = contributor < entry.contributor](const SharedRun& run) {
        for (auto i = static_cast<size_t>(run.a); i < static_cast<size_t>(run.a + run.count); ++i) {
          ++takers_[i];
          if (is_before) ++place_[i];
        }
      });
    std::memset(entry.value.raw(), 0, count_ * sizeof(float));
  }

  void add(TensorReader& reader, const StoredTensor& tensor, int contributor, const std::vector<Box>& boxes) {
    const std::vector<Box> common = common_boxes(entry_.boxes, boxes);
    bool takes = false;
    for_each_shared_run(entry_.boxes, common, [&](const SharedRun& run) {
      for (int64_t i = run.a; i < run.a + run.count; ++i) takes |= is_mine(static_cast<size_t>(i));
    });
    std::vector<float> part(takes ? static_cast<size_t>(num_elements(common)) : 0);
    if (takes)
      reader.read(tensor, common, {reinterpret_cast<char*>(part.data()), part.size() * sizeof(float)}, contributor);
    auto* total = entry_.value.data<float>();
    for_each_shared_run(entry_.boxes, common, [&](const SharedRun& run) {
      for (int64_t i = 0; i < run.count; ++i) {
        const auto to = static_cast<size_t>(run.a + i);
        if (is_mine(to)) total[to] += part[static_cast<size_t>(run.b + i)];
        ++stored_[to];
      }
    });
  }
  int64_t missing() const { return std::count(stored_.begin(), stored_.end(), 0u); }

 private:
  bool is_mine(size_t i) const { return stored_[i] % takers_[i] == place_[i]; }

  StateEntry& entry_;
  size_t count_;
  std::vector<uint32_t> takers_, place_;  // how many contributors of this run have an element, and how many before this
  std::vector<uint32_t> stored_;          // values of it so far
};

// Into f32 values: residuals are nothing else.
void load_sum(TensorReader& reader, const StoredCheckpoint& checkpoint, const StoredTensor& tensor, StateEntry& e,
              const Contributions& now) {
  DF_ASSERT(tensor.dtype == DType::kF32, "{} is a sum of {}", tensor.name, name_of(tensor.dtype));
  SumLoader loader(e, now);
  for (const auto& [contributor, boxes] : boxes_of_contributors(tensor)) loader.add(reader, tensor, contributor, boxes);
  if (loader.missing() > 0)
    throw DataError("{}: {} elements of {} that are needed do not lie in the checkpoint; it is damaged",
                    checkpoint.path(), loader.missing(), printable(tensor.name));
}

}  // namespace

void check_same_tensors(const StoredCheckpoint& checkpoint, const SavePlan& plan) {
  std::vector<std::string> missing, unknown, other;
  for (const StoredTensor& t : plan.tensors) {
    const StoredTensor* stored = checkpoint.manifest().find(t.name);
    if (!stored)
      missing.push_back(t.name);
    else if (stored->dtype != t.dtype || !(stored->shape == t.shape) || stored->rule != t.rule)
      other.push_back(fmt::format("{} ({} {}, expected {} {})", printable(t.name), name_of(stored->dtype),
                                  stored->shape.to_string(), name_of(t.dtype), t.shape.to_string()));
  }
  for (const StoredTensor& t : checkpoint.manifest().tensors) {
    const auto at = std::lower_bound(plan.tensors.begin(), plan.tensors.end(), t.name,
                                     [](const StoredTensor& a, const std::string& name) { return a.name < name; });
    if (at == plan.tensors.end() || at->name != t.name) unknown.push_back(printable(t.name));
  }
  if (missing.empty() && unknown.empty() && other.empty()) return;
  std::string what;
  if (!other.empty()) what += "; of another shape: " + printable_list(other, kShown);
  if (!missing.empty()) what += "; missing: " + printable_list(missing, kShown);
  if (!unknown.empty()) what += "; not of this run: " + printable_list(unknown, kShown);
  throw ConfigError(
      "checkpoint.resume: {} is of another model or optimizer{}; take its recipe, another checkpoint.dir, or "
      "checkpoint.resume: never",
      checkpoint.path(), what);
}

int64_t load_state(StateOwner& owner, const StoredCheckpoint& checkpoint, const SavePlan& plan,
                   const ThreadPool* pool) {
  TensorReader reader(checkpoint, pool);
  const std::map<std::string, Contributions> sums = contributions_of(plan);
  const std::vector<Wanted> wanted = wanted_of(owner, checkpoint);
  size_t next = 0;
  owner.visit_state([&](StateEntry& e) {
    const StoredTensor* tensor = wanted[next++].tensor;
    if (next < wanted.size() && wanted[next].tensor->rule != Reshard::kSum)
      reader.expect(*wanted[next].tensor, wanted[next].boxes);
    if (e.rule == Reshard::kSum)
      load_sum(reader, checkpoint, *tensor, e, sums.at(e.name));
    else
      reader.read(*tensor, e.boxes, {static_cast<char*>(e.value.raw()), e.value.num_bytes()});
  });
  owner.state_written();
  return reader.bytes_read();
}

}  // namespace deepflow
