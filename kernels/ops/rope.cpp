#include "kernels/ops/rope.h"

#include "core/error.h"
#include "kernels/cpu/rope.h"
#include "kernels/ops/compute_type.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

// transformers computes in f32 (modeling_rope_utils.py); so do we, step by step, or high positions would differ.
float wavelength_unit(const RopeOptions& options, size_t pair) {  // wavelength / 2 pi
  const float exponent = static_cast<float>(2 * pair) / static_cast<float>(options.head_dim);
  return static_cast<float>(std::pow(options.theta, static_cast<double>(exponent)));
}

std::vector<float> inverse_frequencies(const RopeOptions& options) {
  std::vector<float> frequencies(static_cast<size_t>(options.head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] = 1.0f / wavelength_unit(options, i);
  return frequencies;
}

float scale_llama3(float frequency, const Llama3RopeScaling& scaling) {
  const double original = static_cast<double>(scaling.original_max_positions);
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
  const float factor = static_cast<float>(scaling.factor);
  if (wavelength > static_cast<float>(original / scaling.low_freq_factor)) return frequency / factor;
  if (wavelength < static_cast<float>(original / scaling.high_freq_factor)) return frequency;
  const float smooth = (static_cast<float>(original) / wavelength - static_cast<float>(scaling.low_freq_factor)) /
                       static_cast<float>(scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

// The column, counted in pairs, whose frequency turns so many times in the original positions.
double yarn_column(double turns, const RopeOptions& options) {
  const double length = static_cast<double>(options.yarn->original_max_positions);
  return static_cast<double>(options.head_dim) * std::log(length / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(options.theta));
}

// Beyond the ramp's ends, columns [0, low] and [high, ..), frequencies stay or are divided by the whole factor.
void scale_yarn(std::vector<float>& frequencies, const RopeOptions& options) {
  const double low = std::max(std::floor(yarn_column(options.yarn->beta_fast, options)), 0.0);
  double high =
      std::min(std::ceil(yarn_column(options.yarn->beta_slow, options)), static_cast<double>(options.head_dim - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float kept = 1 - std::clamp(ramp, 0.0f, 1.0f);
    const float stretched = 1.0f / (static_cast<float>(options.yarn->factor) * wavelength_unit(options, i));
    frequencies[i] = stretched * (1 - kept) + frequencies[i] * kept;
  }
}

struct Rotation {
  int64_t num_heads, head_dim;
  RopeTable table;
  Tensor positions;
};

template <class T>
void rotate_rows(Runtime& runtime, Tensor& x, const Rotation& rotation, float sign) {
  auto* kernel = DF_KERNEL(runtime.isa(), rope<T>);
  const cpu::RopeRows<T> rows{x.data<T>(),
                              x.ld(),
                              rotation.num_heads,
                              rotation.head_dim,
                              rotation.positions.data<int32_t>(),
                              rotation.table.cos.data<float>(),
                              rotation.table.sin.data<float>(),
                              sign};
  runtime.pool().parallel_for(x.rows(), 1, [&](int64_t begin, int64_t end) { kernel(rows, begin, end); });
}

void rotate(Runtime& runtime, Tensor& x, const Rotation& rotation, float sign) {
  with_compute_type(x.dtype(), [&](auto t) { rotate_rows<decltype(t)>(runtime, x, rotation, sign); });
}

class RopeNode final : public Node {
 public:
  explicit RopeNode(Rotation rotation) : rotation_(std::move(rotation)) {}
  const char* name() const override { return "rope"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Tensor gradient = owned_copy(context.runtime, std::move(out[0].value));
    rotate(context.runtime, gradient, rotation_, -1);
    rotation_ = {};
    return {Grad{std::move(gradient), nullptr}};
  }

 private:
  Rotation rotation_;
};

}  // namespace

double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

double yarn_attention_factor(const YarnRopeScaling& s) {
  if (s.attention_factor > 0) return s.attention_factor;
  if (s.mscale == 0 || s.mscale_all_dim == 0) return yarn_mscale(s.factor, 1);
  return yarn_mscale(s.factor, s.mscale) / yarn_mscale(s.factor, s.mscale_all_dim);
}

RopeTable make_rope_table(Runtime& runtime, const RopeOptions& options) {
  DF_ASSERT(options.head_dim > 0 && options.head_dim % 2 == 0, "head_dim {}", options.head_dim);
  std::vector<float> frequencies = inverse_frequencies(options);
  for (float& frequency : frequencies) {
    if (options.llama3) frequency = scale_llama3(frequency, *options.llama3);
    frequency /= static_cast<float>(options.linear_factor);
  }
  if (options.yarn) scale_yarn(frequencies, options);
  const float size = options.yarn ? static_cast<float>(yarn_attention_factor(*options.yarn)) : 1;
  const int64_t half = options.head_dim / 2;
  RopeTable table{Tensor::empty(runtime.memory(), {options.max_positions, half}, DType::kF32),
                  Tensor::empty(runtime.memory(), {options.max_positions, half}, DType::kF32)};
  float *cos = table.cos.data<float>(), *sin = table.sin.data<float>();
  runtime.pool().parallel_for(options.max_positions, 64, [&](int64_t begin, int64_t end) {
    for (int64_t position = begin; position < end; ++position)
      for (int64_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(static_cast<float>(position) * frequencies[static_cast<size_t>(j)]);
        cos[position * half + j] = static_cast<float>(std::cos(angle)) * size;
        sin[position * half + j] = static_cast<float>(std::sin(angle)) * size;
      }
  });
  return table;
}

void check_positions(const Tensor& positions, int64_t rows, const RopeTable& table) {
  DF_ASSERT(positions.num_elements() == rows);
  const int32_t* p = positions.data<int32_t>();
  for (int64_t row = 0; row < rows; ++row)
    if (p[row] < 0 || p[row] >= table.cos.rows())
      throw DataError("row {}: position {} is beyond the model's {} positions; use shorter sequences", row, p[row],
                      table.cos.rows());
}

Var rope(ForwardContext& context, const Var& x, int64_t num_heads, const RopeTable& table) {
  const Rotation rotation{num_heads, 2 * table.cos.cols(), table, context.rows.positions};
  DF_ASSERT(x.value.cols() >= num_heads * rotation.head_dim, "{} columns for {} heads", x.value.cols(), num_heads);
  check_positions(rotation.positions, x.value.rows(), table);
  Tensor rotated = x.value;
  rotate(context.runtime, rotated, rotation, 1);
  if (!context.tape) return {std::move(rotated)};
  return context.tape->record(std::make_unique<RopeNode>(rotation), std::span(&x, 1), std::move(rotated));
}

}  // namespace deepflow
