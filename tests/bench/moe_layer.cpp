// The experts of a mixture with given routing, forward and backward: dispatch, gather, gate|up, SwiGLU, down, combine.
// Routing is softmax and top-k of random logits. Prints one JSON object.
#include "engine/gemm_peak.h"
#include "kernels/ops/activation.h"
#include "kernels/ops/expert_rows.h"
#include "kernels/ops/grouped_linear.h"
#include "tests/bench/bench_store.h"

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstdio>
#include <numeric>

namespace deepflow {
namespace {

struct Options {
  int64_t experts = 8, choices = 2, width = 512, ffn = 1024, rows = 4096;
  std::string dtype = "bf16";
  int steps = 15, threads = 0;
};

struct Routing {
  Tensor expert, weights;
};

Routing route(Runtime& runtime, const Options& o) {
  const Tensor logits = normal_tensor(runtime, {o.rows, o.experts}, DType::kF32, 5);
  Routing r{Tensor::empty(runtime.memory(), {o.rows, o.choices}, DType::kI32),
            Tensor::empty(runtime.memory(), {o.rows, o.choices}, DType::kF32)};
  std::vector<int32_t> order(static_cast<size_t>(o.experts));
  for (int64_t m = 0; m < o.rows; ++m) {
    const float* row = logits.data<float>() + m * o.experts;
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + o.choices, order.end(),
                      [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    float sum = 0;
    for (int64_t j = 0; j < o.choices; ++j) sum += std::exp(row[order[static_cast<size_t>(j)]]);
    for (int64_t j = 0; j < o.choices; ++j) {
      const int32_t e = order[static_cast<size_t>(j)];
      r.expert.data<int32_t>()[m * o.choices + j] = e;
      r.weights.data<float>()[m * o.choices + j] = std::exp(row[e]) / sum;
    }
  }
  return r;
}

class Layer {
 public:
  explicit Layer(const Options& o)
      : o_(o), dtype_(o.dtype == "f32" ? DType::kF32 : DType::kBF16), runtime_({.threads = o.threads}) {
    gate_up_ = &store_.add("gate_up", {o.experts, o.ffn, o.width}, Role::kExpert, 2);
    down_ = &store_.add("down", {o.experts, o.width, o.ffn}, Role::kExpert);
    x_ = normal_tensor(runtime_, {o.rows, o.width}, dtype_, 1);
    dy_ = normal_tensor(runtime_, {o.rows, o.width}, dtype_, 2);
    routing_ = route(runtime_, o);
  }

  // Seconds of a step, and of its expert products alone.
  struct Times {
    double step, products;
  };
  Times once() {
    Tape tape;
    ForwardContext forward{runtime_, *stream_, store_};
    forward.tape = &tape;
    forward.compute = dtype_;
    forward.training = true;
    BackwardContext backward{runtime_, *stream_, store_,
                             [this](Tensor& into, const Tensor& x) { accumulate_gradient(runtime_, into, x); }};
    const Var x = tape.leaf(x_), weights = tape.leaf(routing_.weights);
    products_ = 0;
    const double begin = seconds_now();
    const Dispatch dispatch = make_dispatch(runtime_, routing_.expert, o_.experts);
    const Var out = experts(forward, x, weights, dispatch);
    tape.root(out, {dy_, nullptr}, backward);
    walk_back(tape, backward);
    const double end = seconds_now();
    tape.take(x);
    tape.take(weights);
    return {end - begin, products_};
  }

  double flops() const {
    return 3 * 2.0 * static_cast<double>(o_.rows * o_.choices) * 3 * static_cast<double>(o_.width * o_.ffn);
  }
  Runtime& runtime() { return runtime_; }
  DType dtype() const { return dtype_; }

 private:
  Var timed_linear(ForwardContext& context, const Var& x, Pack& weight, const Dispatch& dispatch) {
    const double begin = seconds_now();
    Var y = grouped_linear(context, x, weight, {dispatch.begin});
    products_ += seconds_now() - begin;
    return y;
  }
  Var experts(ForwardContext& context, const Var& x, const Var& weights, const Dispatch& dispatch) {
    const Var gathered = gather_rows(context, x, dispatch);
    marks_ = {context.tape->mark()};
    const Var gate_up = timed_linear(context, gathered, *gate_up_, dispatch);
    marks_.push_back(context.tape->mark());
    const Var hidden = swiglu(context, gate_up);
    marks_.push_back(context.tape->mark());
    const Var y = timed_linear(context, hidden, *down_, dispatch);
    marks_.push_back(context.tape->mark());
    return combine_rows(context, y, weights, dispatch);
  }
  // Marks 0 to 1 and 2 to 3 are the products.
  void walk_back(Tape& tape, BackwardContext& context) {
    for (size_t i = marks_.size(); i-- > 0;) {
      const double begin = seconds_now();
      tape.backward(context, marks_[i]);
      if (i == 0 || i == 2) products_ += seconds_now() - begin;
    }
    tape.backward(context);
  }

  Options o_;
  DType dtype_;
  Runtime runtime_;
  std::unique_ptr<Stream> stream_ = make_cpu_stream();
  BenchStore store_{runtime_, dtype_};
  Pack *gate_up_, *down_;
  Tensor x_, dy_;
  Routing routing_;
  std::vector<int> marks_;
  double products_ = 0;
};

// The rate of one packed product is measured between the steps, as neighbours come and go.
int run(const Options& o) {
  Layer layer(o);
  std::vector<double> step, products, rates, shares, overheads;
  for (int i = -2; i < o.steps; ++i) {
    const double before = measure_gemm_peak(layer.runtime(), layer.dtype(), 0.02);
    const Layer::Times t = layer.once();
    const double rate = (before + measure_gemm_peak(layer.runtime(), layer.dtype(), 0.02)) / 2;
    if (i < 0) continue;
    step.push_back(t.step);
    products.push_back(t.products);
    rates.push_back(rate);
    shares.push_back(layer.flops() / t.step / rate);
    overheads.push_back(1 - t.products / t.step);
  }
  std::printf(
      "{\"seconds\": %.6f, \"products\": %.6f, \"gflops\": %.1f, \"product_gflops\": %.1f, "
      "\"gemm_gflops\": %.1f, \"gemm_share\": %.4f, \"overhead\": %.4f}\n",
      median(step), median(products), layer.flops() / median(step) * 1e-9, layer.flops() / median(products) * 1e-9,
      median(rates) * 1e-9, median(shares), median(overheads));
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  deepflow::Options o;
  CLI::App app{"A layer of experts"};
  app.add_option("--experts", o.experts);
  app.add_option("--choices", o.choices);
  app.add_option("--width", o.width);
  app.add_option("--ffn", o.ffn);
  app.add_option("--rows", o.rows);
  app.add_option("--dtype", o.dtype)->check(CLI::IsMember({"bf16", "f32"}));
  app.add_option("--steps", o.steps);
  app.add_option("--threads", o.threads);
  CLI11_PARSE(app, argc, argv);
  return deepflow::run(o);
}
