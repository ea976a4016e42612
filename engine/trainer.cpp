#include "engine/trainer.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "optim/gradient_norm.h"
#include "optim/learning_rate.h"
#include "parallel/exchange/dense.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace deepflow {
namespace {

constexpr int64_t kRowsOfAPass = 8192;
constexpr int64_t kLogitElementsOfAPass = int64_t{256} << 20;

// The largest divisor of the rank's share whose rows and logits stay within bounds.
int64_t fitting_micro_batch(int64_t share, int64_t sequence, int64_t vocabulary) {
  const int64_t rows = std::min(kRowsOfAPass, kLogitElementsOfAPass / vocabulary);
  for (int64_t m = share; m > 1; --m)
    if (share % m == 0 && m * sequence <= rows) return m;
  return 1;
}

int64_t choose_micro_batch(const TrainOptions& train, const Machine& machine, const Loader& loader) {
  const int64_t share = train.global_batch / machine.batch_axes.size();
  if (train.global_batch % machine.batch_axes.size() != 0)
    throw ConfigError("train.global_batch: {} sequences do not divide over {} data-parallel ranks", train.global_batch,
                      machine.batch_axes.size());
  if (!train.micro_batch)
    return fitting_micro_batch(share, loader.source().options().sequence, machine.model.shape().vocabulary);
  if (share % *train.micro_batch != 0)
    throw ConfigError(
        "train.micro_batch: {} does not divide the {} sequences of a rank (train.global_batch {} over {} "
        "ranks)",
        *train.micro_batch, share, train.global_batch, machine.batch_axes.size());
  return *train.micro_batch;
}

double sum_one(Communicator& comm, double value, const char* name) {
  return sum_doubles(comm, std::span(&value, 1), name).front();
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

BatchTensors batch_tensors(Runtime& runtime, const Batch& batch, int64_t first, int64_t count) {
  const int64_t begin = first * batch.sequence, rows = count * batch.sequence;
  const auto ints = [&](const std::vector<int32_t>& values) {
    return Tensor::wrap(const_cast<int32_t*>(values.data()) + begin, {rows}, DType::kI32);
  };
  BatchTensors t;
  t.tokens = ints(batch.tokens);
  t.labels = ints(batch.labels);
  t.rows.batch = count;
  t.rows.sequence = batch.sequence;
  t.rows.positions = ints(batch.positions);
  const auto starts = batch.doc_start.begin() + begin;
  if (std::any_of(starts, starts + rows, [](int32_t s) { return s != 0; }))
    t.rows.document_start = ints(batch.doc_start);
  t.rows.row_ids = Tensor::empty(runtime.memory(), {rows}, DType::kI64);
  int64_t* ids = t.rows.row_ids.data<int64_t>();
  for (int64_t i = 0; i < rows; ++i) ids[i] = (batch.first_sample + first) * batch.sequence + i;
  return t;
}

Trainer::Trainer(Machine machine, const TrainOptions& train, const OptimOptions& optim, int zero, Loader& loader)
    : machine_(machine),
      train_(train),
      optim_(optim),
      loader_(loader),
      shards_(machine.store.buckets(), zero > 0 ? machine.batch_axes.size() : 1, find_optimizer(optim.name).unit),
      exchange_(std::make_unique<DenseExchange>(machine.batch_axes, shards_)),
      micro_batch_(choose_micro_batch(train, machine, loader)) {
  const int owner = zero > 0 ? machine.batch_axes.rank() : 0;
  optimizer_ = find_optimizer(optim.name).make(optim, {machine.runtime, machine.store, shards_.pieces(owner)});
}

StepReport Trainer::step() {
  Trace& trace = machine_.runtime.trace();
  Batch batch;
  {
    const ScopedSpan span(trace, "next batch", SpanKind::kInput);
    batch = loader_.next();
  }
  const auto begin = std::chrono::steady_clock::now();
  StepReport report;
  const double labels = sum_one(machine_.batch_axes, static_cast<double>(batch.num_labels), "labels");
  const double local_loss = run_passes(batch, static_cast<int64_t>(labels));
  report.gradient_norm = gradient_norm(machine_.runtime, machine_.store, shards_, machine_.batch_axes);
  report.loss = sum_one(machine_.batch_axes, local_loss, "loss");
  if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) report_not_finite(local_loss);

  report.step = step_ + 1;
  report.lr = learning_rate(optim_, report.step, train_.steps);
  UpdateStep update{report.step, report.lr, 1.0f};
  if (optim_.clip > 0 && report.gradient_norm > optim_.clip)
    update.gradient_scale = static_cast<float>(optim_.clip / report.gradient_norm);
  {
    const ScopedSpan span(trace, "optimizer", SpanKind::kCompute);
    optimizer_->update(update);
  }
  machine_.store.share_all(*exchange_);
  exchange_->finish(true);
  ++step_;
  report.tokens = batch.rows() * machine_.batch_axes.size();
  report.seconds = seconds_since(begin);
  return report;
}

double Trainer::run_passes(const Batch& batch, int64_t global_labels) {
  const int64_t passes = batch.num_samples / micro_batch_;
  machine_.store.begin_step(static_cast<int>(passes), exchange_.get());
  double loss = 0;
  for (int64_t i = 0; i < passes; ++i) loss += run_pass(batch, i * micro_batch_, global_labels);
  const ScopedSpan span(machine_.runtime.trace(), "wait for gradients", SpanKind::kWaiting);
  machine_.store.finish_gradients(machine_.stream);
  return loss;
}

double Trainer::run_pass(const Batch& batch, int64_t first, int64_t global_labels) {
  Runtime& rt = machine_.runtime;
  BatchTensors input = batch_tensors(rt, batch, first, micro_batch_);
  Tensor weights = Tensor::empty(rt.memory(), {input.rows.rows()}, DType::kF32);
  const float weight = global_labels > 0 ? static_cast<float>(1.0 / static_cast<double>(global_labels)) : 0.0f;
  for (int64_t i = 0; i < weights.num_elements(); ++i)
    weights.data<float>()[i] = input.labels.data<int32_t>()[i] == kMaskedLabel ? 0.0f : weight;

  Tape tape;
  ForwardContext forward{rt, machine_.stream, machine_.store};
  forward.tape = &tape;
  forward.compute = machine_.store.compute();
  forward.products = machine_.products;
  forward.training = true;
  forward.seed = train_.seed;
  forward.step = step_;
  forward.rows = input.rows;
  LossResult result;
  {
    const ScopedSpan span(rt.trace(), "forward", SpanKind::kCompute);
    result = machine_.model.loss(forward, input.tokens, input.labels, weights);
  }
  const ScopedSpan span(rt.trace(), "backward", SpanKind::kCompute);
  BackwardContext backward{rt, machine_.stream, machine_.store,
                           [&rt](Tensor& into, const Tensor& x) { accumulate_gradient(rt, into, x); }};
  Tensor seed = Tensor::empty(rt.memory(), {1}, DType::kF32);
  *seed.data<float>() = 1;
  tape.root(result.loss, {seed, nullptr}, backward);
  tape.backward(backward);
  return static_cast<double>(*result.loss.value.data<float>());
}

void Trainer::report_not_finite(double local_loss) {
  Communicator& comm = machine_.batch_axes;
  std::vector<double> bad(static_cast<size_t>(comm.size()));
  bad[static_cast<size_t>(comm.rank())] = std::isfinite(local_loss) ? 0 : 1;
  bad = sum_doubles(comm, bad, "ranks whose loss is not finite");
  std::string ranks;
  for (size_t r = 0; r < bad.size(); ++r)
    if (bad[r] > 0) ranks += fmt::format("{}{}", ranks.empty() ? " on rank " : ", ", r);
  const auto parameter = first_parameter_not_finite(machine_.runtime, machine_.store, shards_, comm);
  throw NumericError(
      "step {}: {} is not finite{}; first parameter whose gradient is not finite: {}; try a lower optim.lr, "
      "a longer optim.warmup or train.precision=f32",
      step_ + 1, ranks.empty() ? "the gradient norm" : "the loss", ranks, parameter.value_or("none"));
}

void Trainer::visit_state(const StateVisitor& visit) {
  machine_.store.wait_for_masters(machine_.stream);
  machine_.store.visit_state(visit);
  optimizer_->visit_state(visit);
  exchange_->visit_state(visit);
  int64_t position[2] = {step_, loader_.cursor()};
  const char* names[2] = {"trainer/step", "trainer/cursor"};
  for (int i = 0; i < 2; ++i) {
    StateEntry entry{
        names[i], {1}, {{{0}, {1}}}, 0, Tensor::wrap(&position[i], {1}, DType::kI64), Reshard::kReplicated};
    visit(entry);
  }
  step_ = position[0];
  if (position[1] != loader_.cursor()) loader_.seek(position[1]);
}

void Trainer::state_written() {
  machine_.store.state_written();
  optimizer_->state_written();
  exchange_->state_written();
}

}  // namespace deepflow
