#include "engine/trainer.h"

#include "core/error.h"
#include "engine/micro_batch_size.h"
#include "engine/pipeline_executor.h"
#include "engine/pipeline_plan.h"
#include "optim/gradient_norm.h"
#include "optim/learning_rate.h"
#include "parallel/exchange/dense.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace deepflow {
namespace {

double sum_one(Communicator& comm, double value, const char* name) {
  return sum_doubles(comm, std::span(&value, 1), name).front();
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Trainer::Trainer(Machine machine, const TrainOptions& train, const OptimOptions& optim, const ParallelOptions& parallel,
                 Loader& loader)
    : machine_(machine),
      train_(train),
      optim_(optim),
      loader_(loader),
      counted_(counted_pieces(machine.store, machine.domains)),
      exchange_(std::make_unique<DenseExchange>(machine.domains, machine.store.shards(), parallel.zero)),
      micro_batch_(choose_micro_batch(train, machine.data_axes().size(), loader.source().options().sequence,
                                      machine.model.shape().vocabulary, machine.links.num_stages())),
      schedule_(
          plan_pipeline(parallel, static_cast<int>(train.global_batch / machine.data_axes().size() / micro_batch_))) {
  if (optim.qk_clip > 0) begin_qk_clip(machine.model);
  if (machine.store.compute() == DType::kF16) loss_scale_.emplace(optim.loss_scale);
  optimizer_ = find_optimizer(optim.name)
                   .make(optim, {machine.runtime, machine.store, optimized_pieces(machine.store.pieces()),
                                 train.offload_optimizer, &machine.domains});
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
  const double labels =
      sum_one(machine_.world(), machine_.counts_samples() ? static_cast<double>(batch.num_labels) : 0, "labels");
  const Losses local = run_passes(batch, static_cast<int64_t>(labels));
  const double scale = loss_scale_ ? static_cast<double>(loss_scale_->scale()) : 1;
  report.gradient_norm = gradient_norm(machine_.runtime, machine_.store, counted_, machine_.world()) / scale;
  const double both[] = {local.main, local.mtp};
  const std::vector<double> losses = sum_doubles(machine_.world(), both, "loss");
  report.loss = losses[0];
  if (machine_.model.shape().mtp > 0) report.mtp_loss = losses[1];
  if (!machine_.model.expert_layers().empty()) report.experts = sum_expert_loads(machine_, statistics_);
  if (optim_.qk_clip > 0) {
    report.scores = max_layer_scores(machine_, statistics_);
    report.score_figures = score_figures(report.scores, optim_.qk_clip);
  }
  const bool finite = std::isfinite(report.loss) && std::isfinite(report.gradient_norm);
  if (loss_scale_)
    report.applied = loss_scale_->update(finite);
  else if (!finite)
    report_not_finite(local.main);
  if (!report.applied) report.gradient_norm = INFINITY;  // never NaN, which equals nothing
  report.step = step_ + 1;
  report.lr = learning_rate(optim_, report.step, train_.steps);
  if (report.applied) update(report, scale);
  exchange_->finish(report.applied);
  ++step_;
  report.tokens = batch.rows() * machine_.data_axes().size();
  report.seconds = seconds_since(begin);
  return report;
}

void Trainer::update(const StepReport& report, double scale) {
  const ScopedSpan span(machine_.runtime.trace(), "optimizer", SpanKind::kCompute);
  double factor = 1 / scale;
  if (optim_.clip > 0 && report.gradient_norm > optim_.clip) factor *= optim_.clip / report.gradient_norm;
  // A step that was left out never reached the moments.
  const int64_t updates = report.step - (loss_scale_ ? loss_scale_->skipped() : 0);
  optimizer_->update({updates, report.lr, static_cast<float>(factor)});
  move_router_biases(machine_, report.experts);
  if (optim_.qk_clip > 0) clip_scores(machine_, report.scores, optim_.qk_clip);
  machine_.store.share_all(*exchange_);
}

Trainer::Losses Trainer::run_passes(const Batch& batch, int64_t global_labels) {
  machine_.store.begin_step(schedule_.num_micro_batches, exchange_.get());
  statistics_.clear();
  PassOptions options;
  options.statistics = &statistics_;
  options.sequence_weight = 1.0f / static_cast<float>(train_.global_batch);
  options.seed = train_.seed;
  options.step = step_;
  if (loss_scale_) options.loss_seed = loss_scale_->scale();
  options.label_weight = global_labels > 0 ? static_cast<float>(1.0 / static_cast<double>(global_labels)) : 0.0f;
  Losses losses;
  PipelineExecutor executor(
      machine_, options, stream_rows(machine_.rows, micro_batch_, batch.sequence),
      [&](int i) { return take_micro_batch(machine_.runtime, batch, i * micro_batch_, micro_batch_, machine_.rows); },
      [&](int, const ChunkPass& pass) {
        losses.main += pass.loss();
        losses.mtp += pass.mtp_loss();
      });
  executor.run(schedule_);
  const ScopedSpan span(machine_.runtime.trace(), "wait for gradients", SpanKind::kWaiting);
  machine_.store.finish_gradients(machine_.stream);
  return machine_.counts_loss() ? losses : Losses{};
}

void Trainer::report_not_finite(double local_loss) {
  Communicator& comm = machine_.world();
  std::vector<double> bad(static_cast<size_t>(comm.size()));
  bad[static_cast<size_t>(comm.rank())] = std::isfinite(local_loss) ? 0 : 1;
  bad = sum_doubles(comm, bad, "ranks whose loss is not finite");
  std::string ranks;
  for (size_t r = 0; r < bad.size(); ++r)
    if (bad[r] > 0) ranks += fmt::format("{}{}", ranks.empty() ? " on rank " : ", ", r);
  const auto parameter = first_parameter_not_finite(machine_.runtime, machine_.store, counted_, comm);
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
  if (loss_scale_) loss_scale_->visit_state(visit);
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
