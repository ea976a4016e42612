#include "tests/twin/stream.h"

#include "tests/twin/arena.h"
#include "tests/twin/emulator.h"
#include "tests/twin/report.h"
#include "tests/twin/shadow.h"

#include <memory>
#include <utility>

namespace twin {

namespace {

std::vector<std::unique_ptr<CUstream_st>> streams;
Clock host_clock;

bool can_run(const CUstream_st& s) {
  if (s.queue.empty()) return false;
  const auto& head = s.queue.front();
  return head.wait_stream < 0 || streams[head.wait_stream]->done >= head.wait_index;
}

void run_head(CUstream_st& s) {
  const CUstream_st::Entry head = std::move(s.queue.front());
  s.queue.pop_front();
  if (head.work) head.work(head.operation);
  ++s.done;
}

CUstream_st* draw_runnable() {
  std::vector<CUstream_st*> candidates;
  for (const auto& s : streams) {
    if (can_run(*s)) candidates.push_back(s.get());
  }
  return candidates.empty() ? nullptr : candidates[random_below(candidates.size())];
}

void run_all() {
  const OpenArena open;
  while (CUstream_st* s = draw_runnable()) run_head(*s);
}

}  // namespace

cudaStream_t make_stream() {
  initialise();
  streams.push_back(std::make_unique<CUstream_st>());
  streams.back()->id = static_cast<int>(streams.size() - 1);
  return streams.back().get();
}

Moment now_in(cudaStream_t s) { return {s->id, s->enqueued, s->clock}; }

unsigned enqueue(cudaStream_t s, TwinWork work) {
  if (num_operations() >= kMaxOperations) settle_streams();
  merge(s->clock, host_clock);
  if (s->clock.size() <= static_cast<size_t>(s->id)) s->clock.resize(s->id + 1);
  s->clock[s->id] = ++s->enqueued;
  const unsigned operation = add_operation(s->id, s->enqueued, s->clock);
  s->queue.push_back({operation, std::move(work)});
  return operation;
}

void enqueue_wait(cudaStream_t s, const Moment& moment) {
  merge(s->clock, moment.clock);
  enqueue(s, nullptr);
  s->queue.back().wait_stream = moment.stream;
  s->queue.back().wait_index = moment.index;
}

bool is_over(const Moment& moment) { return moment.stream < 0 || streams[moment.stream]->done >= moment.index; }

void wait_on_host(const Moment& moment) {
  {
    const OpenArena open;
    while (!is_over(moment)) {
      CUstream_st* s = draw_runnable();
      if (!s) {
        report(Kind::kDeadlock, "no stream can go on");
        break;
      }
      for (uint64_t n = 1 + random_below(4); n > 0 && can_run(*s) && !is_over(moment); --n) run_head(*s);
    }
  }
  merge(host_clock, moment.clock);
}

void settle_streams() {
  run_all();
  settle_arena();
  drop_shared_cells();
  forget_operations();
}

bool usable(cudaStream_t s, const char* call) {
  if (s && s != cudaStreamLegacy && s != cudaStreamPerThread && !s->destroyed) return true;
  report(Kind::kApi, std::string(call) + " on the default stream or on one that was destroyed");
  return false;
}

}  // namespace twin
