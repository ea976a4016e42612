#pragma once

#include "tests/twin/order.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

// The work of an operation; it is told its number for the shadow.
using TwinWork = std::function<void(unsigned operation)>;

// The C API's opaque handles.
struct CUstream_st {
  struct Entry {
    unsigned operation;
    TwinWork work;
    int wait_stream = -1;  // with wait_index: cannot start before that entry is over
    uint32_t wait_index = 0;
  };
  int id;
  bool destroyed = false;
  uint32_t enqueued = 0, done = 0;
  twin::Clock clock;  // what is over when the next entry starts
  std::deque<Entry> queue;
  CUgraph_st* capture = nullptr;  // what records the calls instead of running them
  int capture_branch = 0;
};

namespace twin {

// The state of a stream at a moment: what an event remembers.
struct Moment {
  int stream = -1;
  uint32_t index = 0;
  Clock clock;
};

cudaStream_t make_stream();
Moment now_in(cudaStream_t stream);

// Puts work on the stream's queue, ordered behind the stream and behind all the host has waited for.
unsigned enqueue(cudaStream_t stream, TwinWork work);
void enqueue_wait(cudaStream_t stream, const Moment& moment);

// Runs entries of any streams in a drawn order until `moment` is reached, then lets the host know it.
void wait_on_host(const Moment& moment);
bool is_over(const Moment& moment);

// Runs everything and forgets the order of what has run.
void settle_streams();

// False, with a report, for the default streams.
bool usable(cudaStream_t stream, const char* call);

}  // namespace twin
