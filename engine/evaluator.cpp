#include "engine/evaluator.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr int64_t kRowsOfAPass = 4096;

double summed_loss(Machine& machine, const Batch& batch, uint64_t seed) {
  BatchTensors input = batch_tensors(machine.runtime, batch, 0, batch.num_samples);
  Tensor weights = Tensor::empty(machine.runtime.memory(), {batch.rows()}, DType::kF32);
  for (int64_t i = 0; i < batch.rows(); ++i)
    weights.data<float>()[i] = batch.labels[static_cast<size_t>(i)] == kMaskedLabel ? 0.0f : 1.0f;
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.compute = machine.store.compute();
  context.products = machine.products;
  context.seed = seed;
  context.rows = input.rows;
  const LossResult result = machine.model.loss(context, input.tokens, input.labels, weights);
  const float* nll = result.nll.data<float>();
  double sum = 0;
  for (int64_t i = 0; i < batch.rows(); ++i) sum += static_cast<double>(nll[i]);
  return sum;
}

}  // namespace

Evaluation evaluate(Machine& machine, const HeldOut& heldout, int64_t windows, uint64_t seed) {
  const int64_t total = windows > 0 ? std::min(windows, heldout.num_windows()) : heldout.num_windows();
  const int64_t rank = machine.batch_axes.rank(), size = machine.batch_axes.size();
  const int64_t end = total * (rank + 1) / size;
  double loss = 0, labels = 0;
  for (int64_t w = total * rank / size; w < end;) {
    const int64_t count = std::min(std::max<int64_t>(1, kRowsOfAPass / heldout.sequence()), end - w);
    const Batch batch = heldout.read(w, count);
    loss += summed_loss(machine, batch, seed);
    labels += static_cast<double>(batch.num_labels);
    w += count;
  }
  const double local[] = {loss, labels};
  const std::vector<double> sums = sum_doubles(machine.batch_axes, local, "held-out loss");
  Evaluation result;
  result.num_labels = static_cast<int64_t>(sums[1]);
  if (result.num_labels == 0) return result;
  result.loss = sums[0] / sums[1];
  result.perplexity = std::exp(result.loss);
  if (heldout.store().source_bytes() > 0)
    result.bits_per_byte = heldout.bits_per_byte(result.loss * static_cast<double>(heldout.num_labels()),
                                                 machine.model.shape().vocabulary);
  return result;
}

}  // namespace deepflow
