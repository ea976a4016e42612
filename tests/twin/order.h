#pragma once

#include <cstdint>
#include <vector>

namespace twin {

// Which operations of all streams are ordered: an operation is one entry of a stream (kernel, copy, event, ...).

// A vector clock: element s is how many operations of stream s are known to be over.
using Clock = std::vector<uint32_t>;
void merge(Clock& into, const Clock& from);

constexpr unsigned kMaxOperations = 65535;  // a shadow stamp has 16 bits for it
constexpr unsigned kPast = 1;               // stands for every operation before the last `forget_operations`

// A new operation, number `index` (from 1) of its stream, that starts when everything in `clock` is over.
unsigned add_operation(int stream, uint32_t index, Clock clock);
int stream_of_operation(unsigned operation);
unsigned num_operations();
void forget_operations();

// True when `a` is over before `b` starts, in every order the streams allow; also when a == b.
bool happens_before(unsigned a, unsigned b);

// The seeded generator behind every choice of the emulator.
void seed_choices(uint64_t seed);
uint64_t random_below(uint64_t n);

}  // namespace twin
