#include "parallel/schedule.h"

#include "core/error.h"

#include <charconv>

namespace deepflow {
namespace {

constexpr const char* kVerbs[] = {"F",      "B",      "W",      "BW",     "",     "send F",
                                  "recv F", "send B", "recv B", "gather", "free", "reduce"};

// Takes "WORD" or "cNUMBER" from the front of the text, and the space behind it.
std::string_view take_word(std::string_view& text) {
  const size_t end = text.find(' ');
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return word;
}

bool take_number(std::string_view& text, char letter, int& number) {
  const std::string_view word = take_word(text);
  if (word.size() < 2 || word.front() != letter) return false;
  const char* const end = word.data() + word.size();
  const auto result = std::from_chars(word.data() + 1, end, number);
  return result.ec == std::errc() && result.ptr == end && number >= 0;
}

std::optional<Action> take_action(std::string_view& text) {
  const std::string_view verb = take_word(text);
  for (const Do what : {Do::kF, Do::kB, Do::kW, Do::kBW}) {
    Action action{what};
    if (verb != kVerbs[static_cast<size_t>(what)]) continue;
    if (!take_number(text, 'c', action.chunk) || !take_number(text, 'm', action.micro_batch)) return {};
    return action;
  }
  return {};
}

}  // namespace

std::string name_of(const Action& action) {
  switch (action.what) {
    case Do::kOverlapFB:
      return fmt::format("F c{} m{} + BW c{} m{}", action.chunk, action.micro_batch, action.b_chunk,
                         action.b_micro_batch);
    case Do::kGather:
    case Do::kFree:
      return fmt::format("{} c{}", kVerbs[static_cast<size_t>(action.what)], action.chunk);
    default:
      return fmt::format("{} c{} m{}", kVerbs[static_cast<size_t>(action.what)], action.chunk, action.micro_batch);
  }
}

std::optional<Action> compute_action_named(std::string_view name) {
  std::optional<Action> action = take_action(name);
  if (!action || name.empty()) return action;
  if (action->what != Do::kF || take_word(name) != "+") return {};
  const std::optional<Action> backward = take_action(name);
  if (!backward || backward->what != Do::kBW || !name.empty()) return {};
  return Action{Do::kOverlapFB, action->chunk, action->micro_batch, backward->chunk, backward->micro_batch};
}

std::vector<ComputePart> parts_of(const Action& compute) {
  const int chunk = compute.chunk, micro_batch = compute.micro_batch;
  switch (compute.what) {
    case Do::kF:
      return {{chunk, micro_batch, true, false, false}};
    case Do::kB:
      return {{chunk, micro_batch, false, true, false}};
    case Do::kW:
      return {{chunk, micro_batch, false, false, true}};
    case Do::kBW:
      return {{chunk, micro_batch, false, true, true}};
    case Do::kOverlapFB:
      return {{chunk, micro_batch, true, false, false}, {compute.b_chunk, compute.b_micro_batch, false, true, true}};
    default:
      return {};
  }
}

std::vector<int> Schedule::chunks_of(int rank) const {
  std::vector<int> chunks;
  for (int chunk = 0; chunk < num_chunks(); ++chunk)
    if (rank_of_chunk[static_cast<size_t>(chunk)] == rank) chunks.push_back(chunk);
  return chunks;
}

Schedule forward_only(const Schedule& compute_only) {
  Schedule result = compute_only;
  for (std::vector<Action>& list : result.of_rank) {
    std::vector<Action> forwards;
    for (const Action& action : list)
      for (const ComputePart& part : parts_of(action))
        if (part.f) forwards.push_back({Do::kF, part.chunk, part.micro_batch});
    list = std::move(forwards);
  }
  return result;
}

}  // namespace deepflow
