#pragma once

#include "engine/chunk_pass.h"
#include "parallel/schedule.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>

namespace deepflow {

// Carries out one rank's list of a lowered schedule (parallel/schedule.h): passes, and messages between stages in the
// background. A traced pass is a span with its name that begins when its messages are there. Collective over the whole
// job where the layout has tensor or context parallelism.
class PipelineExecutor {
 public:
  using Input = std::function<MicroBatch(int micro_batch)>;
  using Finished = std::function<void(int micro_batch, const ChunkPass& pass)>;  // forward of the last chunk

  // stream_rows: rows of the residual stream of every micro-batch on this rank.
  PipelineExecutor(Machine& machine, const PassOptions& options, int64_t stream_rows, Input input, Finished finished);
  void run(const Schedule& lowered);

  // Every pass, once its messages are there, takes at least so many seconds (kBW both): how far a real pipeline is from
  // its plan, with equal stages.
  struct Pace {
    double forward = 0, input_gradient = 0, weight_gradient = 0;
    double of(Do what) const;
  };
  void set_pace(const Pace& pace) { pace_ = pace; }

 private:
  using Key = std::pair<int, int>;  // chunk, micro-batch
  struct Arriving {
    Tensor value;
    WorkPtr work;
  };

  void act(const Action& action);
  void forward(const Action& a);
  void backward(const Action& a);
  void backward_input(const Action& a);
  void backward_weight(const Action& a);
  void overlap(const Action& a);
  void receive(const Action& a, bool activation);
  void send(const Action& a, bool activation);
  void wait_for_messages(const Action& compute);
  void wait_for(std::map<Key, Arriving>& in, Key key);
  Tensor take(std::map<Key, Arriving>& from, Key key);

  void hold_back(WorkPtr sent);

  ChunkPass& open(Key key);
  void finish_forward(Key key);
  void finish_backward_input(Key key);
  bool is_here(int chunk) const { return machine_.links.stage_of(chunk) == machine_.links.stage(); }

  Machine& machine_;
  const PassOptions options_;
  const int64_t stream_rows_;
  const Input input_;
  const Finished finished_;
  Pace pace_;
  std::map<Key, std::unique_ptr<ChunkPass>> passes_;
  std::map<Key, Arriving> activations_, gradients_;  // that enter a pass forward, or its backward
  std::map<Key, Tensor> leaving_, leaving_gradients_;
  std::deque<WorkPtr> under_way_;  // messages that left, without training
};

}  // namespace deepflow
