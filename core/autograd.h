#pragma once

#include "core/parameter.h"
#include "core/tensor.h"
#include "core/work.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace deepflow {

class Runtime;

using NodeId = int32_t;
constexpr NodeId kNoNode = -1;

class Rematerial;

// A value on a tape: output number `output` of node `node`. Without a node it is a constant.
struct Var {
  Tensor value;
  NodeId node = kNoNode;
  int output = 0;
  // How a pass over kept tensors makes the value again. Whoever needs the value in backward may keep this instead
  // (kernels/ops/kept_input.h); whoever knows nothing of it reads `value`.
  std::shared_ptr<const Rematerial> recipe = nullptr;
};

// A gradient that may still be in flight. The tape waits before it hands it to a node. Undefined: zero, not needed.
struct Grad {
  Tensor value;
  WorkPtr pending;
  bool defined() const { return value.defined(); }
};

struct BackwardContext {
  Runtime& runtime;
  Stream& stream;
  ParameterStore& store;
  // into += x, where a value has several readers; a new tensor where others hold `into`. (core has no maths: the
  // kernels folder supplies it.)
  std::function<void(Tensor& into, const Tensor& x)> accumulate;
};

// Makes a forward value again, bit for bit, from tensors that it holds. Reads no parameters: it may run in
// backward_weight.
class Rematerial {
 public:
  virtual ~Rematerial() = default;
  virtual Tensor make(Runtime& runtime) const = 0;
};

// One recorded operation. It holds Packs, never parameter bytes.
class Node {
 public:
  virtual ~Node() = default;
  virtual const char* name() const = 0;
  // out: one gradient per output, undefined where nobody used it; the node may overwrite what it solely owns.
  // Returns one gradient per recorded input, then keeps only what backward_weight needs.
  virtual std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) = 0;
  // Adds into the gradients of the node's parameters. Called once, after backward_input. Reads no weights.
  virtual void backward_weight(BackwardContext&) {}
};

// The record of one forward pass of one (model chunk, micro-batch). Explicit: there is no current tape.
class Tape {
 public:
  // An input whose gradient the caller will `take` (a received activation, or one under test).
  Var leaf(Tensor value);
  // Records a node over its inputs and returns its outputs.
  std::vector<Var> record(std::unique_ptr<Node> node, std::span<const Var> inputs, std::vector<Tensor> outputs);
  Var record(std::unique_ptr<Node> node, std::span<const Var> inputs, Tensor output);

  // Seeds backward: a received gradient, a loss, an auxiliary loss. Any number of them.
  void root(const Var& var, Grad seed, BackwardContext& context);
  // The same while forward still runs, for a loss of a layer's own, which nothing else reads.
  void root(const Var& var, Tensor seed);
  // A segment boundary: nodes recorded after it are in later segments.
  int mark() const { return static_cast<int>(entries_.size()); }

  // Each goes from where the last call stopped down to `mark`, so that two tapes may alternate.
  void backward_input(BackwardContext& context, int down_to_mark = 0);
  void backward_weight(BackwardContext& context, int down_to_mark = 0);  // only where backward_input has been
  // Both, node by node: a parameter's gradient is complete as early as possible.
  void backward(BackwardContext& context, int down_to_mark = 0);

  Grad take(const Var& leaf);

 private:
  struct Source {
    NodeId node;
    int output;
  };
  struct Entry {
    std::unique_ptr<Node> node;  // null: a leaf
    std::vector<Source> inputs;
    std::vector<Grad> grads;  // of its outputs, as they arrive
  };

  void input_step(BackwardContext& context, size_t index);
  void weight_step(BackwardContext& context, size_t index);
  void add_grad(BackwardContext& context, const Source& to, Grad grad);
  void start_backward();

  std::vector<Entry> entries_;
  int input_cursor_ = -1, weight_cursor_ = -1;  // first index already done; -1: not started
};

}  // namespace deepflow
