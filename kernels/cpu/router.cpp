#include "kernels/cpu/router.h"

#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr float kSmallestSum = 1e-20f;  // added to a sum of scores: all of a row may be 0

// The largest of the values offered, in falling order, equal ones in the order in which they came.
class Largest {
 public:
  explicit Largest(int64_t most) : most_(most) {}

  void offer(float value, int64_t index) {
    if (value != value) value = -kInfinity;
    if (count_ == most_) {
      if (!(value > values_[most_ - 1])) return;
      --count_;
    }
    int64_t at = count_++;
    for (; at > 0 && value > values_[at - 1]; --at) {
      values_[at] = values_[at - 1];
      indices_[at] = indices_[at - 1];
    }
    values_[at] = value;
    indices_[at] = static_cast<int32_t>(index);
  }

  int64_t count() const { return count_; }
  float value(int64_t i) const { return values_[i]; }
  int32_t index(int64_t i) const { return indices_[i]; }

 private:
  static constexpr int64_t kMost = kMostChoices > kMostGroups ? kMostChoices : kMostGroups;
  int64_t most_, count_ = 0;
  float values_[kMost];
  int32_t indices_[kMost];
};

float biased(const float* scores, const float* bias, int64_t expert) {
  return bias ? scores[expert] + bias[expert] : scores[expert];
}

// A bit for each of the groups whose group_best best experts have the largest sums.
uint64_t best_groups(const float* scores, const float* bias, const ExpertSelection& s) {
  const int64_t size = s.experts / s.groups;
  Largest groups(s.top_groups);
  for (int64_t g = 0; g < s.groups; ++g) {
    Largest best(s.group_best);
    for (int64_t e = g * size; e < (g + 1) * size; ++e) best.offer(biased(scores, bias, e), e);
    float sum = best.value(0);
    for (int64_t i = 1; i < best.count(); ++i) sum += best.value(i);
    groups.offer(sum, g);
  }
  uint64_t bits = 0;
  for (int64_t i = 0; i < groups.count(); ++i) bits |= uint64_t{1} << groups.index(i);
  return bits;
}

DF_SIMD float sum_of(const float* scores, const int32_t* expert, int64_t choices) {
  float sum = kSmallestSum;
  for (int64_t i = 0; i < choices; ++i) sum += scores[expert[i]];
  return sum;
}

}  // namespace

void softmax_scores(const float* logits, float* scores, int64_t experts, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = logits + row * experts;
    float* y = scores + row * experts;
    F32 largest = splat(-kInfinity);
    for_each_vector(experts, [&](int64_t j, auto lanes) {
      largest = max(largest, keep_lanes(load(x + j, lanes), lanes, splat(-kInfinity)));
    });
    const F32 shift = splat(reduce_max(largest));
    F32 sum = zero();
    for_each_vector(experts, [&](int64_t j, auto lanes) {
      const F32 v = exp(load(x + j, lanes) - shift);
      store(y + j, v, lanes);
      sum = sum + keep_lanes(v, lanes, zero());
    });
    const F32 inverse = splat(1.0f / reduce_add(sum));
    for_each_vector(experts, [&](int64_t j, auto lanes) { store(y + j, load(y + j, lanes) * inverse, lanes); });
  }
}

void sigmoid_scores(const float* logits, float* scores, int64_t experts, int64_t begin, int64_t end) {
  for_each_vector((end - begin) * experts, [&](int64_t j, auto lanes) {
    store(scores + begin * experts + j, sigmoid(load(logits + begin * experts + j, lanes)), lanes);
  });
}

void softmax_scores_backward(const float* scores, const float* dscores, float* dlogits, int64_t experts, int64_t begin,
                             int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float *s = scores + row * experts, *d = dscores + row * experts;
    F32 product = zero();
    for_each_vector(experts,
                    [&](int64_t j, auto lanes) { product = fma(load(s + j, lanes), load(d + j, lanes), product); });
    const F32 mean = splat(reduce_add(product));
    for_each_vector(experts, [&](int64_t j, auto lanes) {
      store(dlogits + row * experts + j, load(s + j, lanes) * (load(d + j, lanes) - mean), lanes);
    });
  }
}

void sigmoid_scores_backward(const float* scores, const float* dscores, float* dlogits, int64_t experts, int64_t begin,
                             int64_t end) {
  const int64_t first = begin * experts;
  for_each_vector((end - begin) * experts, [&](int64_t j, auto lanes) {
    const F32 s = load(scores + first + j, lanes);
    store(dlogits + first + j, load(dscores + first + j, lanes) * fnma(s, s, s), lanes);
  });
}

void select_experts(const float* scores, const float* bias, const ExpertSelection& selection, int32_t* expert,
                    int64_t begin, int64_t end) {
  const int64_t size = selection.experts / selection.groups, choices = selection.choices;
  for (int64_t row = begin; row < end; ++row) {
    const float* s = scores + row * selection.experts;
    const bool limited = selection.top_groups < selection.groups;
    const uint64_t allowed = limited ? best_groups(s, bias, selection) : ~uint64_t{0};
    Largest best(choices);
    for (int64_t g = 0; g < selection.groups; ++g) {
      if (((allowed >> g) & 1) == 0) continue;
      for (int64_t e = g * size; e < (g + 1) * size; ++e) best.offer(biased(s, bias, e), e);
    }
    for (int64_t i = 0; i < choices; ++i) expert[row * choices + i] = best.index(i);
  }
}

void router_weights(const float* scores, const int32_t* expert, int64_t experts, int64_t choices, bool normalise,
                    float scale, float* weights, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* s = scores + row * experts;
    const int32_t* chosen = expert + row * choices;
    const float factor = normalise ? scale / sum_of(s, chosen, choices) : scale;
    for (int64_t i = 0; i < choices; ++i) weights[row * choices + i] = s[chosen[i]] * factor;
  }
}

void router_weights_backward(const float* scores, const int32_t* expert, const float* dweights, int64_t experts,
                             int64_t choices, bool normalise, float scale, float* dscores, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float *s = scores + row * experts, *d = dweights + row * choices;
    const int32_t* chosen = expert + row * choices;
    float* ds = dscores + row * experts;
    for_each_vector(experts, [&](int64_t j, auto lanes) { store(ds + j, zero(), lanes); });
    if (!normalise) {
      for (int64_t i = 0; i < choices; ++i) ds[chosen[i]] = d[i] * scale;
      continue;
    }
    // Less their mean by weight, as differences: of one choice alone exactly 0, and not a rounding error that an
    // optimizer may take for a direction.
    const float inverse = 1.0f / sum_of(s, chosen, choices);
    for (int64_t i = 0; i < choices; ++i) {
      float above = 0;
      for (int64_t j = 0; j < choices; ++j) above += (d[i] - d[j]) * s[chosen[j]];
      ds[chosen[i]] = above * inverse * inverse * scale;
    }
  }
}

}  // namespace deepflow::cpu::DF_ISA
