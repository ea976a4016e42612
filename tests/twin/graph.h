#pragma once

#include "tests/twin/stream.h"

#include <cuda_runtime_api.h>

#include <vector>

// A captured graph: the calls of all streams that took part, one branch a stream, in call order.
struct CUgraph_st {
  enum class What { kWork, kRecord, kWait };
  struct Node {
    int branch;
    What what;
    TwinWork work;
    int record = -1;  // a wait: the node that recorded its event
  };
  std::vector<Node> nodes;
  int num_branches = 0;
};

struct CUgraphExec_st {
  CUgraph_st graph;
  std::vector<cudaStream_t> branches;  // replayed on streams of its own
};

struct CUevent_st {
  bool recorded = false;
  twin::Moment moment;
  CUgraph_st* capture = nullptr;  // recorded while this was captured, as node capture_node
  int capture_node = -1;
};

namespace twin {

// Enqueues work, or records it when the stream is captured; an error on a default stream.
cudaError_t submit(cudaStream_t stream, TwinWork work, const char* call);

// The last error, as cudaGetLastError returns it.
cudaError_t fail(cudaError_t error);
cudaError_t last_error(bool clear);

}  // namespace twin
