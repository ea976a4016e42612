#include "kernels/ops/router_loss.h"

#include "core/error.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/cpu/router_loss.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kGrain = 16;  // rows

Tensor scalar(Runtime& runtime, double value) {
  Tensor t = Tensor::empty(runtime.memory(), {1}, DType::kF32);
  *t.data<float>() = static_cast<float>(value);
  return t;
}

// Calls f(first row, rows, sequence) for what lies in [begin, end) of each sequence.
template <class F>
void for_each_sequence(const std::vector<int64_t>& begins, int64_t begin, int64_t end, F&& f) {
  for (size_t b = 0; b + 1 < begins.size(); ++b) {
    const int64_t first = std::max(begin, begins[b]), last = std::min(end, begins[b + 1]);
    if (first < last) f(first, last - first, static_cast<int64_t>(b));
  }
}

class BalanceLossNode final : public Node {
 public:
  BalanceLossNode(Tensor scores, Tensor slopes, std::vector<int64_t> begins, bool normalise)
      : scores_(std::move(scores)), slopes_(std::move(slopes)), begins_(std::move(begins)), normalise_(normalise) {}

  const char* name() const override { return "balance_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& rt = context.runtime;
    auto* kernel = DF_KERNEL(rt.isa(), balance_backward);
    const float seed = *out[0].value.data<float>();
    const int64_t experts = scores_.cols();
    std::vector<float> slopes(static_cast<size_t>(slopes_.num_elements()));
    for (size_t i = 0; i < slopes.size(); ++i) slopes[i] = slopes_.data<float>()[i] * seed;
    Tensor dscores = Tensor::empty(rt.memory(), scores_.shape(), DType::kF32);
    rt.pool().parallel_for(scores_.rows(), kGrain, [&](int64_t begin, int64_t end) {
      for_each_sequence(begins_, begin, end, [&](int64_t row, int64_t rows, int64_t sequence) {
        kernel(scores_.data<float>() + row * experts, slopes.data() + sequence * experts, experts, rows, normalise_,
               dscores.data<float>() + row * experts);
      });
    });
    scores_ = slopes_ = {};
    return {Grad{std::move(dscores), nullptr}};
  }

 private:
  Tensor scores_, slopes_;
  std::vector<int64_t> begins_;
  bool normalise_;
};

class ZLossNode final : public Node {
 public:
  ZLossNode(Tensor logits, Tensor log_sums, float weight)
      : logits_(std::move(logits)), log_sums_(std::move(log_sums)), weight_(weight) {}

  const char* name() const override { return "router_z_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& rt = context.runtime;
    auto* kernel = DF_KERNEL(rt.isa(), z_loss_backward);
    const float factor = 2 * weight_ * *out[0].value.data<float>();
    Tensor dlogits = Tensor::empty(rt.memory(), logits_.shape(), DType::kF32);
    rt.pool().parallel_for(logits_.rows(), kGrain, [&](int64_t begin, int64_t end) {
      kernel(logits_.data<float>(), log_sums_.data<float>(), factor, dlogits.data<float>(), logits_.cols(), begin, end);
    });
    logits_ = log_sums_ = {};
    return {Grad{std::move(dlogits), nullptr}};
  }

 private:
  Tensor logits_, log_sums_;
  float weight_;
};

}  // namespace

Tensor balance_slopes(ForwardContext& context, const Tensor& expert, int64_t sequence, int64_t experts, float weight) {
  const int64_t batch = expert.rows() / std::max<int64_t>(1, sequence), choices = expert.cols();
  DF_ASSERT(expert.rows() == batch * sequence && expert.is_contiguous(), "{} rows", expert.rows());
  Tensor slopes = context.empty({batch, experts}, DType::kF32);
  const double tokens = static_cast<double>(sequence);
  const double of_choice =
      static_cast<double>(weight) * static_cast<double>(experts) / (tokens * tokens * static_cast<double>(choices));
  context.runtime.pool().parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      float* slope = slopes.data<float>() + b * experts;
      std::fill_n(slope, experts, 0.0f);
      const int32_t* chosen = expert.data<int32_t>() + b * sequence * choices;
      for (int64_t i = 0; i < sequence * choices; ++i) slope[chosen[i]] += 1;
      for (int64_t e = 0; e < experts; ++e) slope[e] = static_cast<float>(of_choice * static_cast<double>(slope[e]));
    }
  });
  return slopes;
}

Var balance_loss(ForwardContext& context, const Var& scores, const Tensor& slopes, std::vector<int64_t> begins,
                 bool normalise) {
  Runtime& rt = context.runtime;
  const int64_t experts = scores.value.cols(), sequences = slopes.rows();
  DF_ASSERT(static_cast<int64_t>(begins.size()) == sequences + 1 && begins.back() == scores.value.rows(), "{} rows",
            scores.value.rows());
  auto* kernel = DF_KERNEL(rt.isa(), add_scores);
  std::vector<double> losses(static_cast<size_t>(sequences));
  rt.pool().parallel_for(sequences, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sums(static_cast<size_t>(experts));
    for (auto b = static_cast<size_t>(begin); b < static_cast<size_t>(end); ++b) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      kernel(scores.value.data<float>() + begins[b] * experts, experts, begins[b + 1] - begins[b], normalise,
             sums.data());
      const float* slope = slopes.data<float>() + static_cast<int64_t>(b) * experts;
      for (size_t e = 0; e < sums.size(); ++e)
        losses[b] += static_cast<double>(slope[e]) * static_cast<double>(sums[e]);
    }
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  Tensor result = scalar(rt, total);
  if (!context.tape) return {std::move(result)};
  return context.tape->record(std::make_unique<BalanceLossNode>(scores.value, slopes, std::move(begins), normalise),
                              std::span(&scores, 1), std::move(result));
}

Var router_z_loss(ForwardContext& context, const Var& logits, float weight) {
  Runtime& rt = context.runtime;
  auto* log_sum_exp = DF_KERNEL(rt.isa(), log_sum_exp);
  const int64_t rows = logits.value.rows(), experts = logits.value.cols();
  Tensor log_sums = context.empty({rows}, DType::kF32);
  float* sums = log_sums.data<float>();
  rt.pool().parallel_for(rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      sums[r] = log_sum_exp(logits.value.data<float>() + r * experts, DType::kF32, experts);
  });
  double total = 0;
  for (int64_t r = 0; r < rows; ++r) total += static_cast<double>(sums[r]) * static_cast<double>(sums[r]);
  Tensor result = scalar(rt, total * static_cast<double>(weight));
  if (!context.tape) return {std::move(result)};
  return context.tape->record(std::make_unique<ZLossNode>(logits.value, log_sums, weight), std::span(&logits, 1),
                              std::move(result));
}

}  // namespace deepflow
