#include "engine/layer_cost.h"

#include "engine/chunk_pass.h"

#include <algorithm>
#include <chrono>

namespace deepflow {
namespace {

constexpr int kLayers = 2, kRounds = 3;

Batch one_sequence(int64_t sequence, int64_t vocabulary) {
  Batch batch;
  batch.resize(1, sequence);
  for (int64_t t = 0; t < sequence; ++t) {
    const auto row = static_cast<size_t>(t);
    batch.tokens[row] = batch.labels[row] = static_cast<int32_t>((t * 7919) % vocabulary);
    batch.positions[row] = static_cast<int32_t>(t);
    batch.doc_start[row] = 0;
  }
  batch.num_labels = sequence;
  return batch;
}

template <class F>
double seconds_of(F&& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

LayerCosts time_pass(Machine& machine, const Batch& batch) {
  ChunkPass pass(machine, {}, 0, take_micro_batch(machine.runtime, batch, 0, 1, machine.rows));
  LayerCosts costs;
  machine.store.begin_step(1, nullptr);
  costs.embedding = seconds_of([&] { pass.begin_forward({}); });
  costs.layer = seconds_of([&] {
                  while (pass.forward_layer()) {
                  }
                }) /
                kLayers;
  costs.head = seconds_of([&] { pass.end_forward(); });
  costs.head += seconds_of([&] {
    pass.begin_backward({});
    pass.backward_segment();
  });
  const double last_layer = seconds_of([&] { pass.backward_segment(); });
  const double first_layer_and_embedding = seconds_of([&] { pass.backward_segment(); });
  machine.store.finish_gradients(machine.stream);
  costs.layer += last_layer;
  costs.embedding += std::max(0.0, first_layer_and_embedding - last_layer);
  return costs;
}

}  // namespace

LayerCosts measure_layer_costs(const ModelOptions& model, const SessionOptions& options, int64_t sequence) {
  ModelOptions two = model;
  two.config().set_layers(kLayers);
  Session session(two, options);
  session.store().initialise(1);
  Machine machine = session.machine();
  const Batch batch = one_sequence(sequence, machine.model.shape().vocabulary);
  LayerCosts best = time_pass(machine, batch);
  for (int round = 1; round < kRounds; ++round) {
    const LayerCosts c = time_pass(machine, batch);
    best = {std::min(best.layer, c.layer), std::min(best.embedding, c.embedding), std::min(best.head, c.head)};
  }
  return best;
}

}  // namespace deepflow
