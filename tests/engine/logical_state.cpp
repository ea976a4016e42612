#include "tests/engine/logical_state.h"

#include "checkpoint/blockstore/save_plan.h"
#include "checkpoint/boxes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace deepflow::testing {
namespace {

// Entries, a zero byte, and their values.
std::string pack(StateOwner& owner) {
  std::string text = to_text(held_entries(owner));
  text.push_back('\0');
  owner.visit_state([&](StateEntry& e) { text.append(static_cast<const char*>(e.value.raw()), e.value.num_bytes()); });
  return text;
}

void put(LogicalState& state, const HeldEntry& e, const char* values, size_t rank) {
  const std::string name = e.rule == Reshard::kSum ? fmt::format("{} of {}", e.name, e.contributor) : e.name;
  const auto count = static_cast<size_t>(e.shape.num_elements()), size = size_of(e.dtype);
  LogicalState::Value& v = state.tensors[name];
  if (v.held.empty()) v = {e.dtype, e.shape, std::vector<char>(count * size), std::vector<bool>(count)};
  if (v.dtype != e.dtype || !(v.shape == e.shape)) {
    state.faults.push_back(fmt::format("{}: of another shape on rank {}", name, rank));
    return;
  }
  Box whole;
  for (const int64_t extent : e.shape) whole.lo.push_back(0), whole.hi.push_back(extent);
  bool differs = false;
  for_each_shared_run(e.boxes, {whole}, [&](const SharedRun& run) {
    for (int64_t i = 0; i < run.count; ++i) {
      const auto from = static_cast<size_t>(run.a + i), to = static_cast<size_t>(run.b + i);
      if (v.held[to] && std::memcmp(&v.bytes[to * size], values + from * size, size) != 0) differs = true;
      std::memcpy(&v.bytes[to * size], values + from * size, size);
      v.held[to] = true;
    }
  });
  if (differs) state.faults.push_back(fmt::format("{}: rank {} has another copy", name, rank));
}

}  // namespace

LogicalState gather_state(StateOwner* owner, Communicator& world) {
  const std::vector<std::string> all = gather_texts(world, owner ? pack(*owner) : "", "state");
  LogicalState state;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    const size_t end = all[rank].find('\0');
    const char* values = all[rank].data() + end + 1;
    for (const HeldEntry& e : entries_from_text(all[rank].substr(0, end))) {
      put(state, e, values, rank);
      values += static_cast<size_t>(num_elements(e.boxes)) * size_of(e.dtype);
    }
  }
  for (const auto& [name, v] : state.tensors)
    if (std::find(v.held.begin(), v.held.end(), false) != v.held.end())
      state.faults.push_back(fmt::format("{}: nobody has some of its elements", name));
  return state;
}

std::vector<std::string> differences(const LogicalState& a, const LogicalState& b) {
  std::vector<std::string> found = a.faults;
  found.insert(found.end(), b.faults.begin(), b.faults.end());
  for (const auto& [name, v] : a.tensors) {
    const auto other = b.tensors.find(name);
    if (other == b.tensors.end())
      found.push_back(name + ": is gone");
    else if (!(v.shape == other->second.shape) || v.dtype != other->second.dtype)
      found.push_back(name + ": is of another shape");
    else if (v.bytes != other->second.bytes)
      found.push_back(name + ": has other values");
  }
  for (const auto& [name, v] : b.tensors)
    if (!a.tensors.count(name)) found.push_back(name + ": is new");
  return found;
}

}  // namespace deepflow::testing
