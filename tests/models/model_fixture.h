#pragma once

#include "kernels/ops/elementwise.h"
#include "models/config.h"
#include "parallel/resident_store.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace deepflow::testing {

// A model with random weights in memory, and passes over random tokens.
class TinyModel {
 public:
  explicit TinyModel(const ModelConfig& config, Recompute recompute = Recompute::kNone, DType compute = DType::kF32,
                     int64_t bucket_elements = ResidentStore::kBucketElements)
      : model_(config.build(runtime_, registry_, recompute)) {
    registry_.freeze({});
    store_ = std::make_unique<ResidentStore>(runtime_, registry_, compute, bucket_elements);
    store_->initialise(3);
  }

  Runtime& runtime() { return runtime_; }
  ParameterRegistry& registry() { return registry_; }
  ResidentStore& store() { return *store_; }
  CausalModel& model() { return *model_; }

  // `count` sequences of `length` tokens at positions from `first_position` on.
  ForwardContext context(int64_t count, int64_t length, int64_t first_position = 0) {
    positions_.clear();
    row_ids_.clear();
    for (int64_t i = 0; i < count * length; ++i) {
      positions_.push_back(static_cast<int32_t>(first_position + i % length));
      row_ids_.push_back(i);
    }
    ForwardContext c{runtime_, *stream_, *store_};
    c.compute = store_->compute();
    c.rows.batch = count;
    c.rows.sequence = length;
    c.rows.positions = Tensor::wrap(positions_.data(), {count * length}, DType::kI32);
    c.rows.row_ids = Tensor::wrap(row_ids_.data(), {count * length}, DType::kI64);
    return c;
  }

  enum class Backward : uint8_t { kWhole, kSplit };  // kSplit: all input gradients, then all weight gradients

  // Loss of a training step (dropout on); gradients, times `scale`, are in the store afterwards.
  float train_pass(std::vector<int32_t> tokens, int64_t count, int64_t step = 0, float scale = 1,
                   Backward how = Backward::kWhole) {
    const auto rows = static_cast<int64_t>(tokens.size());
    std::vector<int32_t> labels(tokens.begin() + 1, tokens.end());
    labels.push_back(-1);
    std::vector<float> weights(tokens.size(), 1.0f / static_cast<float>(rows));
    Tape tape;
    ForwardContext forward = context(count, rows / count);
    forward.tape = &tape;
    forward.training = true;
    forward.seed = 11;
    forward.step = step;
    forward.sequence_weight = sequence_weight;
    forward.loss_seed = scale;
    forward.statistics = &statistics;
    const Tensor label_ids = Tensor::wrap(labels.data(), {rows}, DType::kI32);
    const Tensor counts = Tensor::wrap(weights.data(), {rows}, DType::kF32);
    Var hidden = model_->hidden(forward, Tensor::wrap(tokens.data(), {rows}, DType::kI32));
    const LossResult result = model_->loss_of(forward, hidden, label_ids, counts);
    float loss = *result.loss.value.data<float>();
    // Of multi-token prediction, where rows predict the token behind their label as well.
    std::optional<Var> ahead;
    std::vector<int32_t> next(tokens.begin() + 1, tokens.end()), next_labels(labels.begin() + 1, labels.end());
    next.push_back(0);
    next_labels.push_back(-1);
    std::vector<float> weights_ahead;
    if (model_->shape().mtp > 0) {
      weights_ahead.assign(tokens.size(), weights.front() * model_->mtp_weight());
      const Var rows_ahead = model_->hidden_ahead(forward, hidden, Tensor::wrap(next.data(), {rows}, DType::kI32));
      ahead = model_
                  ->loss_of(forward, rows_ahead, Tensor::wrap(next_labels.data(), {rows}, DType::kI32),
                            Tensor::wrap(weights_ahead.data(), {rows}, DType::kF32))
                  .loss;
      loss += *ahead->value.data<float>();
    }
    hidden = {};
    store_->begin_step(1, nullptr);
    BackwardContext backward{runtime_, *stream_, *store_,
                             [this](Tensor& into, const Tensor& x) { accumulate_gradient(runtime_, into, x); }};
    Tensor seed = Tensor::empty(runtime_.memory(), {1}, DType::kF32);
    fill(runtime_, seed, scale);
    tape.root(result.loss, {seed, nullptr}, backward);
    if (ahead) tape.root(*ahead, {seed, nullptr}, backward);
    if (how == Backward::kSplit) {
      tape.backward_input(backward);
      tape.backward_weight(backward);
    } else {
      tape.backward(backward);
    }
    store_->finish_gradients(*stream_);
    return loss;
  }

  // Of train_pass: core/context.h. Statistics are those of all passes.
  float sequence_weight = 0;
  StatisticsSink statistics;

  std::vector<float> gradient(const std::string& name) {
    const Tensor g = store_->gradient_of(*registry_.find(name));
    return {g.data<float>(), g.data<float>() + g.num_elements()};
  }

 private:
  Runtime runtime_{{.threads = 2}};
  std::unique_ptr<Stream> stream_ = make_cpu_stream();
  ParameterRegistry registry_;
  std::unique_ptr<CausalModel> model_;
  std::unique_ptr<ResidentStore> store_;
  std::vector<int32_t> positions_;
  std::vector<int64_t> row_ids_;
};

inline std::vector<int32_t> some_tokens(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((i * i * 31 + i * 7 + 3) % vocabulary));
  return tokens;
}

}  // namespace deepflow::testing
