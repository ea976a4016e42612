#include "engine/run_report.h"

#include "core/durable_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace deepflow {
namespace {

constexpr size_t kRecentSteps = 20;

double seconds_between(std::chrono::steady_clock::time_point a, std::chrono::steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

}  // namespace

RunReport::RunReport(const RunOptions& options, bool speaks, double gemm_rate, double flops_per_token,
                     int64_t go_on_behind)
    : dir_(options.run.dir),
      steps_(options.train.steps),
      speaks_(speaks),
      gemm_rate_(gemm_rate),
      flops_per_token_(flops_per_token),
      progress_(stdout, options.log.every) {
  if (speaks_) {
    metrics_ = std::make_unique<MetricsFile>(dir_ + "/metrics.jsonl", go_on_behind);
    take_up(metrics_->kept());
  }
  recent_.push_back({std::chrono::steady_clock::now(), tokens_});
  if (!speaks_) return;
  if (options.log.tensorboard) tensorboard_ = std::make_unique<TensorboardWriter>(dir_ + "/tensorboard");
}

void RunReport::take_up(const std::vector<nlohmann::json>& earlier) {
  const auto number = [](const nlohmann::json& line, const char* key, auto& value) {
    const bool there = line.contains(key) && line[key].is_number();
    if (there) line[key].get_to(value);
    return there;
  };
  for (const nlohmann::json& line : earlier) {
    double step = 0, loss = 0;
    number(line, "step", step);
    number(line, "tokens", tokens_);
    if (number(line, "loss", loss)) training_.points.push_back({step, loss});
    if (number(line, "heldout_loss", loss)) heldout_.points.push_back({step, loss});
  }
}

void RunReport::checkpoint(const SaveReport& r) {
  if (!speaks_) return;
  progress_.note(describe(r));
  nlohmann::json line = {{"step", r.step}, {"checkpoint", r.path}};
  if (!r.error.empty())
    line["checkpoint_error"] = r.error;
  else
    line.update({{"checkpoint_bytes", r.stats.raw},
                 {"checkpoint_stored_bytes", r.stats.stored},
                 {"checkpoint_referenced_bytes", r.stats.referenced},
                 {"checkpoint_difference_bytes", r.stats.differences},
                 {"checkpoint_codecs", r.codecs},
                 {"checkpoint_copy_seconds", r.snapshot},
                 {"checkpoint_wait_seconds", r.waited},
                 {"checkpoint_write_seconds", r.writing}});
  metrics_->add(line);
}

void RunReport::say(const std::string& line) {
  if (speaks_) progress_.note(line);
}

void RunReport::gemm_rate(double rate, double pause) {
  gemm_rate_ = std::max(gemm_rate_, rate);
  for (Moment& moment : recent_)
    moment.time +=
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(pause));
}

double RunReport::tokens_per_second() const {
  const Moment &first = recent_.front(), &last = recent_.back();
  const double seconds = seconds_between(first.time, last.time);
  return seconds > 0 ? static_cast<double>(last.tokens - first.tokens) / seconds : 0;
}

void RunReport::step(const StepReport& r) {
  tokens_ += r.tokens;
  recent_.push_back({std::chrono::steady_clock::now(), tokens_});
  if (recent_.size() > kRecentSteps) recent_.erase(recent_.begin());
  if (!speaks_) return;
  ProgressFigures f;
  f.step = r.step;
  f.steps = steps_;
  f.loss = r.loss;
  f.mtp_loss = r.mtp_loss;
  f.gradient_norm = r.gradient_norm;
  f.lr = r.lr;
  if (r.score_figures) f.score = r.score_figures->largest;
  f.tokens_per_second = tokens_per_second();
  f.mfu = gemm_rate_ > 0 ? f.tokens_per_second * flops_per_token_ / gemm_rate_ : 0;
  f.memory_bytes = resident_bytes();
  const auto per_step =
      seconds_between(recent_.front().time, recent_.back().time) / static_cast<double>(recent_.size() - 1);
  f.seconds_left = per_step * static_cast<double>(steps_ - r.step);
  experts_.step(r.step, r.experts);
  experts_.add_to(f);
  progress_.show(f);
  training_.points.push_back({static_cast<double>(r.step), r.loss});
  nlohmann::json line = {{"step", r.step},
                         {"loss", r.loss},
                         {"gradient_norm", r.gradient_norm},
                         {"lr", r.lr},
                         {"tokens", tokens_},
                         {"tokens_per_second", f.tokens_per_second},
                         {"mfu", f.mfu},
                         {"memory_bytes", f.memory_bytes},
                         {"seconds", r.seconds}};
  if (r.mtp_loss) line["mtp_loss"] = *r.mtp_loss;
  if (r.score_figures) {
    line["largest_score"] = r.score_figures->largest;
    line["clipped_heads"] = r.score_figures->clipped;
  }
  if (!r.bytes_sent.empty()) line["bytes_sent"] = r.bytes_sent;
  if (experts_.has_experts()) line["experts"] = experts_.as_json();
  metrics_->add(line);
  if (!tensorboard_) return;
  std::vector<TensorboardWriter::Scalar> scalars = experts_.scalars();
  scalars.insert(scalars.end(), {{"train/loss", r.loss},
                                 {"train/gradient_norm", r.gradient_norm},
                                 {"train/lr", r.lr},
                                 {"speed/tokens_per_second", f.tokens_per_second},
                                 {"speed/mfu", f.mfu}});
  if (r.mtp_loss) scalars.push_back({"train/mtp_loss", *r.mtp_loss});
  if (r.score_figures)
    scalars.insert(scalars.end(), {{"attention/largest_score", r.score_figures->largest},
                                   {"attention/clipped_heads", static_cast<double>(r.score_figures->clipped)}});
  tensorboard_->add(r.step, scalars);
}

void RunReport::evaluation(int64_t step, const Evaluation& e) {
  // The pause does not count as training time.
  recent_.assign(1, {std::chrono::steady_clock::now(), tokens_});
  if (!speaks_) return;
  progress_.note(fmt::format("held out at step {}: loss {:.4f}  perplexity {:.2f}{}", step, e.loss, e.perplexity,
                             e.bits_per_byte > 0 ? fmt::format("  {:.4f} bits per byte", e.bits_per_byte) : ""));
  heldout_.points.push_back({static_cast<double>(step), e.loss});
  metrics_->add({{"step", step},
                 {"heldout_loss", e.loss},
                 {"heldout_perplexity", e.perplexity},
                 {"heldout_bits_per_byte", e.bits_per_byte},
                 {"heldout_labels", e.num_labels}});
  if (tensorboard_) tensorboard_->add(step, {{"heldout/loss", e.loss}, {"heldout/bits_per_byte", e.bits_per_byte}});
}

void RunReport::finish() {
  progress_.finish();
  if (!speaks_) return;
  std::vector<Curve> curves{training_};
  if (!heldout_.points.empty()) curves.push_back(heldout_);
  write_file_durably(dir_ + "/loss.svg", curves_as_svg("Loss", "step", "nats per token", curves));
  if (experts_.has_experts()) write_file_durably(dir_ + "/experts.svg", experts_.picture());
}

}  // namespace deepflow
