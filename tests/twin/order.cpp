#include "tests/twin/order.h"

#include <algorithm>
#include <utility>

namespace twin {

namespace {

struct Operation {
  int stream;
  uint32_t index;
  Clock clock;
};

std::vector<Operation> operations(kPast + 1);  // 0 is never used, kPast precedes all
uint64_t state = 88172645463325252u;

}  // namespace

void merge(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

unsigned add_operation(int stream, uint32_t index, Clock clock) {
  operations.push_back({stream, index, std::move(clock)});
  return static_cast<unsigned>(operations.size() - 1);
}

int stream_of_operation(unsigned operation) { return operations[operation].stream; }
unsigned num_operations() { return static_cast<unsigned>(operations.size()); }
void forget_operations() { operations.resize(kPast + 1); }

bool happens_before(unsigned a, unsigned b) {
  if (a == b || a <= kPast) return true;
  if (b <= kPast) return false;
  const Operation& earlier = operations[a];
  const Clock& known = operations[b].clock;
  return static_cast<size_t>(earlier.stream) < known.size() && known[earlier.stream] >= earlier.index;
}

void seed_choices(uint64_t seed) { state = 88172645463325252u ^ (seed * 0x9e3779b97f4a7c15u); }

uint64_t random_below(uint64_t n) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state >> 32) * n >> 32;
}

}  // namespace twin
