#include "engine/pipeline_executor.h"

#include "core/error.h"
#include "core/turns.h"

#include <chrono>
#include <thread>
#include <utility>

namespace deepflow {
namespace {

using Kind = PipelineLinks::Kind;

}  // namespace

PipelineExecutor::PipelineExecutor(Machine& machine, const PassOptions& options, int64_t stream_rows, Input input,
                                   Finished finished)
    : machine_(machine),
      options_(options),
      stream_rows_(stream_rows),
      input_(std::move(input)),
      finished_(std::move(finished)) {}

void PipelineExecutor::run(const Schedule& lowered) {
  for (const Action& action : lowered.of_rank[static_cast<size_t>(machine_.links.stage())]) {
    if (!is_compute(action.what)) {
      act(action);
      continue;
    }
    wait_for_messages(action);
    const std::string name = machine_.runtime.trace().enabled() ? name_of(action) : std::string();
    const ScopedSpan span(machine_.runtime.trace(), name.c_str(), SpanKind::kCompute);
    const auto least = std::chrono::duration<double>(pace_.of(action.what));
    const auto begin = std::chrono::steady_clock::now();
    act(action);
    if (least.count() > 0) std::this_thread::sleep_until(begin + least);
  }
  DF_ASSERT((!options_.training || passes_.empty()) && activations_.empty() && gradients_.empty() && leaving_.empty() &&
                leaving_gradients_.empty(),
            "the schedule left something behind");
}

double PipelineExecutor::Pace::of(Do what) const {
  const bool f = what == Do::kF || what == Do::kOverlapFB;
  const bool b = what == Do::kB || what == Do::kBW || what == Do::kOverlapFB;
  const bool w = what == Do::kW || what == Do::kBW || what == Do::kOverlapFB;
  return (f ? forward : 0) + (b ? input_gradient : 0) + (w ? weight_gradient : 0);
}

void PipelineExecutor::act(const Action& a) {
  switch (a.what) {
    case Do::kF:
      return forward(a);
    case Do::kB:
      return backward_input(a);
    case Do::kW:
      return backward_weight(a);
    case Do::kBW:
      return backward(a);
    case Do::kOverlapFB:
      return overlap(a);
    case Do::kRecvF:
      return receive(a, true);
    case Do::kRecvB:
      return receive(a, false);
    case Do::kSendF:
      return send(a, true);
    case Do::kSendB:
      return send(a, false);
    case Do::kGather:
    case Do::kFree:
    case Do::kReduce:
      return;  // the parameter store follows the passes themselves
  }
}

ChunkPass& PipelineExecutor::open(Key key) {
  auto& pass = passes_[key];
  DF_ASSERT(!pass, "chunk {} micro-batch {} twice", key.first, key.second);
  pass = std::make_unique<ChunkPass>(machine_, options_, key.first, input_(key.second));
  return *pass;
}

void PipelineExecutor::forward(const Action& a) {
  const Key key{a.chunk, a.micro_batch};
  open(key).forward(take(activations_, key));
  finish_forward(key);
}

void PipelineExecutor::finish_forward(Key key) {
  ChunkPass& pass = *passes_.at(key);
  const Key next{key.first + 1, key.second};
  if (pass.is_last())
    finished_(key.second, pass);
  else if (is_here(next.first))
    activations_[next] = {pass.take_leaving(), nullptr};
  else
    leaving_[key] = pass.take_leaving();
  if (!options_.training) passes_.erase(key);
}

void PipelineExecutor::backward_input(const Action& a) {
  const Key key{a.chunk, a.micro_batch};
  ChunkPass& pass = *passes_.at(key);
  pass.begin_backward(take(gradients_, key));
  pass.backward_input();
  finish_backward_input(key);
}

void PipelineExecutor::backward_weight(const Action& a) {
  const Key key{a.chunk, a.micro_batch};
  passes_.at(key)->backward_weight();
  passes_.erase(key);
}

void PipelineExecutor::backward(const Action& a) {
  const Key key{a.chunk, a.micro_batch};
  ChunkPass& pass = *passes_.at(key);
  pass.begin_backward(take(gradients_, key));
  while (pass.backward_segment()) {
  }
  finish_backward_input(key);
  passes_.erase(key);
}

void PipelineExecutor::overlap(const Action& a) {
  const Key f{a.chunk, a.micro_batch}, b{a.b_chunk, a.b_micro_batch};
  ChunkPass& backward = *passes_.at(b);
  ChunkPass& forward = open(f);
  machine_.runtime.slot<Turns>().run(
      [&, gradient = take(gradients_, b)]() mutable {
        backward.begin_backward(std::move(gradient));
        while (backward.backward_segment()) {
        }
      },
      [&, entering = take(activations_, f)]() mutable { forward.forward(std::move(entering)); });
  finish_forward(f);
  finish_backward_input(b);
  passes_.erase(b);
}

void PipelineExecutor::finish_backward_input(Key key) {
  if (key.first == 0) return;
  const Key before{key.first - 1, key.second};
  Tensor gradient = passes_.at(key)->take_entering_gradient();
  if (is_here(before.first))
    gradients_[before] = {std::move(gradient), nullptr};
  else
    leaving_gradients_[key] = std::move(gradient);
}

// Without a backward pass to wait for, a stage that is faster than the next would run ahead with all its micro-batches,
// and their rows would wait in memory.
void PipelineExecutor::hold_back(WorkPtr sent) {
  constexpr size_t kRoundsAhead = 3;  // through all chunks of a stage: less, and stages could wait for each other
  under_way_.push_back(std::move(sent));
  if (under_way_.size() <= kRoundsAhead * machine_.links.own_chunks().size()) return;
  const ScopedSpan span(machine_.runtime.trace(), "wait for a stage", SpanKind::kWaiting);
  under_way_.front()->wait_host();
  under_way_.pop_front();
}

void PipelineExecutor::receive(const Action& a, bool activation) {
  const int from = activation ? a.chunk - 1 : a.chunk + 1;
  Arriving arriving{Tensor::empty(machine_.runtime.memory(), {stream_rows_, machine_.model.shape().width}, DType::kF32),
                    nullptr};
  if (stream_rows_ > 0)
    arriving.work = machine_.links.receive(activation ? Kind::kActivation : Kind::kGradient,
                                           machine_.links.stage_of(from), arriving.value);
  (activation ? activations_ : gradients_)[{a.chunk, a.micro_batch}] = std::move(arriving);
}

void PipelineExecutor::send(const Action& a, bool activation) {
  const int to = activation ? a.chunk + 1 : a.chunk - 1;
  auto& values = activation ? leaving_ : leaving_gradients_;
  auto node = values.extract({a.chunk, a.micro_batch});
  DF_ASSERT(!node.empty(), "nothing to send of chunk {} micro-batch {}", a.chunk, a.micro_batch);
  if (stream_rows_ == 0) return;
  WorkPtr work =
      machine_.links.send(activation ? Kind::kActivation : Kind::kGradient, machine_.links.stage_of(to), node.mapped());
  if (!options_.training) hold_back(std::move(work));
}

// Before the span of the pass begins: who waits for another stage does not compute.
void PipelineExecutor::wait_for_messages(const Action& compute) {
  for (const ComputePart& part : parts_of(compute)) {
    const Key key{part.chunk, part.micro_batch};
    if (part.f) wait_for(activations_, key);
    if (part.b) wait_for(gradients_, key);
  }
}

void PipelineExecutor::wait_for(std::map<Key, Arriving>& in, Key key) {
  const auto found = in.find(key);
  if (found == in.end() || !found->second.work) return;
  const ScopedSpan span(machine_.runtime.trace(), "wait for a stage", SpanKind::kWaiting);
  std::exchange(found->second.work, nullptr)->wait(machine_.stream);
}

// What a chunk at the end of the model takes is undefined.
Tensor PipelineExecutor::take(std::map<Key, Arriving>& from, Key key) {
  auto node = from.extract(key);
  return node.empty() ? Tensor() : std::move(node.mapped().value);
}

}  // namespace deepflow
