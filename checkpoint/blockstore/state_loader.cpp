#include "checkpoint/blockstore/state_loader.h"

#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/boxes.h"
#include "checkpoint/printable.h"
#include "core/error.h"

#include <algorithm>
#include <cstring>

namespace deepflow {
namespace {

constexpr size_t kShown = 12;  // names in a message

// Into f32 values: residuals are nothing else.
void load_sum(TensorReader& reader, const StoredTensor& tensor, StateEntry& e, int num_contributors) {
  DF_ASSERT(tensor.dtype == DType::kF32, "{} is a sum of {}", tensor.name, name_of(tensor.dtype));
  const size_t bytes = static_cast<size_t>(num_elements(e.boxes)) * sizeof(float);
  float* total = e.value.data<float>();
  std::memset(total, 0, bytes);
  std::vector<float> part(bytes / sizeof(float));
  for (const int c : contributors_of(tensor)) {
    if (c % num_contributors != e.contributor) continue;
    reader.read(tensor, e.boxes, {reinterpret_cast<char*>(part.data()), bytes}, c);
    for (size_t i = 0; i < part.size(); ++i) total[i] += part[i];
  }
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

int64_t load_state(StateOwner& owner, const StoredCheckpoint& checkpoint, int num_contributors,
                   const ThreadPool* pool) {
  TensorReader reader(checkpoint, pool);
  owner.visit_state([&](StateEntry& e) {
    const StoredTensor* tensor = checkpoint.manifest().find(e.name);
    DF_ASSERT(tensor, "{} was not compared with the checkpoint", e.name);
    if (e.rule == Reshard::kSum)
      load_sum(reader, *tensor, e, num_contributors);
    else
      reader.read(*tensor, e.boxes, {static_cast<char*>(e.value.raw()), e.value.num_bytes()});
  });
  owner.state_written();
  return reader.bytes_read();
}

}  // namespace deepflow
