#include "models/parts/moe.h"

#include "kernels/ops/elementwise.h"
#include "parallel/resident_store.h"
#include "tests/kernels/test_store.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::relative_error;
using testing::values_of;

constexpr int64_t kWidth = 12, kExperts = 5, kFfn = 6, kBatch = 4, kSequence = 5, kRows = kBatch * kSequence;

MoeOptions options_of(RouterScore score = RouterScore::kSoftmax) {
  MoeOptions o;
  o.width = kWidth, o.experts = kExperts, o.ffn = kFfn;
  o.routing.score = score;
  o.stddev = o.out_stddev = 0.5f;
  return o;
}

// One layer in memory.
class Layer {
 public:
  explicit Layer(const MoeOptions& options, DType compute = DType::kF32) : moe_(registry_, "moe", options) {
    registry_.freeze({});
    store_ = std::make_unique<ResidentStore>(runtime_, registry_, compute);
    store_->initialise(3);
  }

  Runtime& runtime() { return runtime_; }
  ResidentStore& store() { return *store_; }
  std::vector<double> master(const std::string& name) { return values_of(store_->master(*registry_.find(name))); }
  std::vector<double> gradient(const std::string& name) {
    return values_of(store_->gradient_of(*registry_.find(name)));
  }
  void set_bias(std::vector<float> bias) {
    Tensor t = store_->master(*registry_.find("moe.router.bias"));
    std::copy(bias.begin(), bias.end(), t.data<float>());
    store_->state_written();
  }

  ForwardContext context(int64_t batch, Tape* tape) {
    ForwardContext c{runtime_, *stream_, *store_};
    c.tape = tape;
    c.compute = store_->compute();
    c.training = true;
    c.sequence_weight = 1.0f / kBatch;
    c.statistics = &statistics;
    c.rows.batch = batch;
    c.rows.sequence = kSequence;
    return c;
  }
  Tensor forward(const Tensor& x) {
    ForwardContext c = context(x.rows() / kSequence, nullptr);
    return moe_(c, {x}).value;
  }
  // Gradient to x; those of the parameters are in the store, sums over the parts that x is cut into.
  std::vector<double> backward(const Tensor& x, const Tensor& dy, int parts = 1) {
    std::vector<double> dx;
    store_->begin_step(parts, nullptr);
    for (int part = 0; part < parts; ++part) {
      const int64_t begin = x.rows() * part / parts, end = x.rows() * (part + 1) / parts;
      Tape tape;
      ForwardContext c = context((end - begin) / kSequence, &tape);
      const Var leaf = tape.leaf(x.row_range(begin, end));
      BackwardContext b{runtime_, *stream_, *store_,
                        [this](Tensor& into, const Tensor& more) { accumulate_gradient(runtime_, into, more); }};
      tape.root(moe_(c, leaf), {dy.row_range(begin, end), nullptr}, b);
      tape.backward(b);
      const auto values = values_of(tape.take(leaf).value);
      dx.insert(dx.end(), values.begin(), values.end());
    }
    store_->finish_gradients(*stream_);
    return dx;
  }
  Tensor normal(const std::string& name, float stddev = 1) {
    Tensor t = Tensor::empty(runtime_.memory(), {kRows, kWidth}, DType::kF32);
    fill_normal(runtime_, t, random_site(5, name), stddev, 0, 0);
    return t;
  }

  StatisticsSink statistics;

 private:
  Runtime runtime_{{.threads = 2}};
  std::unique_ptr<Stream> stream_ = make_cpu_stream();
  ParameterRegistry registry_;
  MoeLayer moe_;
  std::unique_ptr<ResidentStore> store_;
};

// y[i] = sum_j m[i, j] x[j]; m begins at `first`.
std::vector<double> times(const std::vector<double>& m, size_t first, size_t rows, const std::vector<double>& x) {
  std::vector<double> y(rows);
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < x.size(); ++j) y[i] += m[first + i * x.size() + j] * x[j];
  return y;
}

std::vector<double> swiglu_mlp(const std::vector<double>& gate, const std::vector<double>& up,
                               const std::vector<double>& down, size_t expert, size_t ffn,
                               const std::vector<double>& x) {
  const auto g = times(gate, expert * ffn * kWidth, ffn, x), u = times(up, expert * ffn * kWidth, ffn, x);
  std::vector<double> h(ffn);
  for (size_t i = 0; i < ffn; ++i) h[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
  return times(down, expert * kWidth * ffn, kWidth, h);
}

std::vector<double> reference(Layer& layer, const MoeOptions& o, const Tensor& x) {
  const auto router = layer.master("moe.router.weight"), gate = layer.master("moe.gate.weight"),
             up = layer.master("moe.up.weight"), down = layer.master("moe.down.weight");
  const auto all = values_of(x);
  std::vector<double> result;
  for (int64_t row = 0; row < x.rows(); ++row) {
    const std::vector<double> in(all.begin() + row * kWidth, all.begin() + (row + 1) * kWidth);
    auto score = times(router, 0, kExperts, in);
    double sum = 0;
    for (double& s : score) {
      s = o.routing.score == RouterScore::kSoftmax ? std::exp(s) : 1 / (1 + std::exp(-s));
      sum += s;
    }
    std::vector<size_t> order = {0, 1, 2, 3, 4};
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return score[a] > score[b]; });
    const double chosen = score[order[0]] + score[order[1]];
    std::vector<double> out(kWidth);
    for (size_t i = 0; i < 2; ++i) {
      const double weight = score[order[i]] / (o.routing.normalise ? chosen : sum);
      const auto y = swiglu_mlp(gate, up, down, order[i], kFfn, in);
      for (size_t d = 0; d < kWidth; ++d) out[d] += weight * y[d];
    }
    if (o.shared_ffn > 0) {
      const auto y = swiglu_mlp(layer.master("moe.shared.gate.weight"), layer.master("moe.shared.up.weight"),
                                layer.master("moe.shared.down.weight"), 0, static_cast<size_t>(o.shared_ffn), in);
      for (size_t d = 0; d < kWidth; ++d) out[d] += y[d];
    }
    result.insert(result.end(), out.begin(), out.end());
  }
  return result;
}

TEST(MoeLayer, IsTheSumOfItsExpertsAsThePlainReferenceHasIt) {
  for (const int64_t shared : {0, 4})
    for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
      MoeOptions o = options_of(score);
      o.shared_ffn = shared;
      Layer layer(o);
      const Tensor x = layer.normal("x");
      EXPECT_LT(relative_error(values_of(layer.forward(x)), reference(layer, o, x)), 1e-6) << shared;
    }
}

TEST(MoeLayer, GradientsMatchDifferenceQuotientsWithTheLosses) {
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    MoeOptions o = options_of(score);
    o.shared_ffn = 4;
    o.balance = {.loss = 3, .z_loss = 0.5, .bias_rate = 0.01};
    Layer layer(o);
    layer.set_bias({0.1f, -0.2f, 0.3f, 0, 0.05f});
    Tensor x = layer.normal("x");
    const Tensor dy = layer.normal("dy");
    const auto slopes = values_of(dy);
    const auto dx = layer.backward(x, dy);
    const auto loss = [&] {
      layer.statistics.clear();
      const auto y = values_of(layer.forward(x));
      double sum = layer.statistics.sums().at("moe/balance_loss") + layer.statistics.sums().at("moe/z_loss");
      for (size_t i = 0; i < y.size(); ++i) sum += y[i] * slopes[i];
      return sum;
    };
    Tensor gradient = layer.normal("dx");
    std::transform(dx.begin(), dx.end(), gradient.data<float>(), [](double d) { return static_cast<float>(d); });
    expect_gradient(x, gradient, loss, 1e-3, 5e-3);
    for (const double g : layer.gradient("moe.router.bias")) EXPECT_EQ(g, 0);
  }
}

TEST(MoeLayer, DoesNotDependOnHowTheBatchIsCut) {
  for (const double capacity : {0.0, 1.0}) {
    MoeOptions o = options_of();
    o.balance = {.loss = 1, .z_loss = 0.1, .bias_rate = 0, .capacity = capacity};
    Layer whole(o), parts(o);
    const Tensor x = whole.normal("x"), dy = whole.normal("dy");
    const auto a = whole.backward(x, dy), b = parts.backward(x, dy, kBatch);
    EXPECT_LT(relative_error(a, b), 1e-6);
    for (const char* name : {"moe.router.weight", "moe.gate.weight", "moe.up.weight", "moe.down.weight"})
      EXPECT_LT(relative_error(whole.gradient(name), parts.gradient(name)), 1e-6) << name;
    EXPECT_EQ(whole.statistics.rows(), parts.statistics.rows());
    for (const auto& [name, value] : whole.statistics.sums())
      EXPECT_NEAR(value, parts.statistics.sums().at(name), 1e-6 * value) << name;
  }
}

TEST(MoeLayer, DropsOnlyWhileItTrains) {
  MoeOptions o = options_of();
  o.balance.capacity = 0.5;  // one slot of each expert in a sequence
  Layer layer(o), dropless(options_of());
  const Tensor x = layer.normal("x");
  EXPECT_NE(values_of(layer.forward(x)), values_of(dropless.forward(x)));
  const std::vector<double>& load = layer.statistics.rows().at("moe/load");
  EXPECT_EQ(load, dropless.statistics.rows().at("moe/load"));
  EXPECT_GE(layer.statistics.sums().at("moe/dropped"), 2 * kRows - kBatch * kExperts);
  EXPECT_EQ(dropless.statistics.sums().at("moe/dropped"), 0);
}

TEST(MoeLayer, ABiasMovesChoicesAndNotWeights) {
  MoeOptions o = options_of(RouterScore::kSigmoid);
  o.routing.choices = 1;
  o.routing.normalise = false;
  o.balance.bias_rate = 0.1;
  Layer layer(o);
  layer.set_bias({0, 0, 0, 10, 0});
  layer.forward(layer.normal("x"));
  EXPECT_EQ(layer.statistics.rows().at("moe/load"), (std::vector<double>{0, 0, 0, kRows, 0}));
}

TEST(MoeLayer, OneExpertTakesAllTokens) {
  MoeOptions o = options_of();
  o.experts = 1, o.routing.choices = 1;
  Layer layer(o);
  const Tensor x = layer.normal("x"), dy = layer.normal("dy");
  EXPECT_EQ(layer.backward(x, dy).size(), static_cast<size_t>(kRows * kWidth));
  const auto gate = layer.master("moe.gate.weight"), up = layer.master("moe.up.weight"),
             down = layer.master("moe.down.weight");
  const auto all = values_of(x);
  const std::vector<double> first(all.begin(), all.begin() + kWidth);
  const auto expected = swiglu_mlp(gate, up, down, 0, kFfn, first);
  const auto y = values_of(layer.forward(x));
  EXPECT_LT(relative_error({y.begin(), y.begin() + kWidth}, expected), 1e-6);
}

}  // namespace
}  // namespace deepflow
