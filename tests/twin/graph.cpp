#include "tests/twin/graph.h"

#include "tests/twin/report.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

using What = CUgraph_st::What;

namespace twin {

namespace {

std::vector<cudaStream_t> capturing;
cudaError_t error_seen = cudaSuccess;

// Every branch but the first must end in a recorded event that another branch waits for.
bool all_branches_joined(const CUgraph_st& g) {
  for (int branch = 1; branch < g.num_branches; ++branch) {
    int last = -1;
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      if (g.nodes[i].branch == branch) last = static_cast<int>(i);
    }
    const bool waited_for = std::any_of(g.nodes.begin(), g.nodes.end(), [last](const CUgraph_st::Node& n) {
      return n.what == What::kWait && n.record == last;
    });
    if (last < 0 || g.nodes[last].what != What::kRecord || !waited_for) return false;
  }
  return true;
}

void join_capture(cudaStream_t s, CUgraph_st* graph) {
  s->capture = graph;
  s->capture_branch = graph->num_branches++;
  capturing.push_back(s);
}

}  // namespace

cudaError_t fail(cudaError_t error) { return error_seen = error; }

cudaError_t last_error(bool clear) {
  const cudaError_t error = error_seen;
  if (clear) error_seen = cudaSuccess;
  return error;
}

cudaError_t submit(cudaStream_t s, TwinWork work, const char* call) {
  if (!usable(s, call)) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    s->capture->nodes.push_back({s->capture_branch, What::kWork, std::move(work)});
  } else {
    enqueue(s, std::move(work));
  }
  return cudaSuccess;
}

}  // namespace twin

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t s) {
  if (!twin::usable(s, "cudaEventRecord")) return twin::fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    event->capture = s->capture;
    event->capture_node = static_cast<int>(s->capture->nodes.size());
    s->capture->nodes.push_back({s->capture_branch, What::kRecord, nullptr});
    return cudaSuccess;
  }
  twin::enqueue(s, nullptr);
  event->capture = nullptr;
  event->recorded = true;
  event->moment = twin::now_in(s);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t event, unsigned) {
  if (!twin::usable(s, "cudaStreamWaitEvent")) return twin::fail(cudaErrorInvalidResourceHandle);
  if (event->capture) {
    if (!s->capture) twin::join_capture(s, event->capture);
    s->capture->nodes.push_back({s->capture_branch, What::kWait, nullptr, event->capture_node});
    return cudaSuccess;
  }
  if (s->capture) {
    twin::report(twin::Kind::kApi, "a captured stream waits for an event recorded outside the capture");
    return twin::fail(cudaErrorStreamCaptureIsolation);
  }
  if (!event->recorded) {
    twin::report(twin::Kind::kApi, "wait for an event that was never recorded: a GPU does not wait at all");
    return cudaSuccess;
  }
  twin::enqueue_wait(s, event->moment);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (!event->recorded) {
    twin::report(twin::Kind::kApi, "the host waits for an event that was never recorded");
    return cudaSuccess;
  }
  twin::wait_on_host(event->moment);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!event->recorded) return cudaSuccess;
  if (!twin::is_over(event->moment) && twin::random_below(2) == 0) return cudaErrorNotReady;
  twin::wait_on_host(event->moment);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  if (!twin::usable(s, "cudaStreamBeginCapture")) return twin::fail(cudaErrorInvalidResourceHandle);
  if (s->capture) return twin::fail(cudaErrorIllegalState);
  twin::join_capture(s, new CUgraph_st);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  std::unique_ptr<CUgraph_st> captured(s->capture);
  *graph = nullptr;
  if (!captured) return twin::fail(cudaErrorIllegalState);
  const bool joined = twin::all_branches_joined(*captured);
  for (cudaStream_t t : twin::capturing) {
    if (t->capture == captured.get()) t->capture = nullptr;
  }
  if (!joined) {
    twin::report(twin::Kind::kApi, "the capture ends while a stream that forked off has not been joined");
    return twin::fail(cudaErrorStreamCaptureUnjoined);
  }
  *graph = captured.release();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{*graph, {}};
  for (int i = 0; i < graph->num_branches; ++i) (*exec)->branches.push_back(twin::make_stream());
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  if (!twin::usable(s, "cudaGraphLaunch")) return twin::fail(cudaErrorInvalidResourceHandle);
  twin::enqueue(s, nullptr);
  const twin::Moment begin = twin::now_in(s);
  for (cudaStream_t branch : exec->branches) twin::enqueue_wait(branch, begin);
  std::map<int, twin::Moment> recorded;
  for (size_t i = 0; i < exec->graph.nodes.size(); ++i) {
    const auto& node = exec->graph.nodes[i];
    cudaStream_t branch = exec->branches[node.branch];
    if (node.what == What::kWait) {
      twin::enqueue_wait(branch, recorded.at(node.record));
      continue;
    }
    twin::enqueue(branch, node.work);
    if (node.what == What::kRecord) recorded[static_cast<int>(i)] = twin::now_in(branch);
  }
  for (cudaStream_t branch : exec->branches) twin::enqueue_wait(s, twin::now_in(branch));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
}
