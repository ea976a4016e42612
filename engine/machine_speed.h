#pragma once

#include "core/runtime.h"
#include "parallel/communicator.h"

#include <cstdint>

namespace deepflow {

// Bytes a second between memory and the cores, as STREAM counts them (McCalpin 1995): what is read and written, without
// what a cache reads because of a write.
struct MemoryBandwidth {
  double copy = 0;   // b = a, two streams
  double triad = 0;  // a = b + s c, three streams
};
// Best of several passes over arrays far beyond the caches, on one thread or all of the runtime, for about `seconds`.
// sharers: processes of the host that measure at the same time, which together fill the caches.
MemoryBandwidth measure_memory(Runtime& runtime, bool all_threads, int sharers, double seconds);

// Seconds of an f32 all_reduce of that many bytes: the slowest member's, median of several, for about `seconds` but
// once at least. Collective.
double measure_all_reduce(Communicator& comm, int64_t bytes, double seconds);

}  // namespace deepflow
