// int8 products beside packed bf16 ones, in turn, for the extents of GPT-2 124M.
#include "core/runtime.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/int8_matmul.h"
#include "kernels/ops/matmul.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

namespace deepflow {
namespace {

using Clock = std::chrono::steady_clock;

template <class F>
double seconds_of(F&& f) {
  const auto begin = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// |a - b| / |b|.
double difference(const Tensor& a, const Tensor& b) {
  double top = 0, bottom = 0;
  for (int64_t i = 0; i < a.num_elements(); ++i) {
    const double x = to_float(a.data<BF16>()[i]), y = to_float(b.data<BF16>()[i]);
    top += (x - y) * (x - y);
    bottom += y * y;
  }
  return std::sqrt(top / bottom);
}

Tensor pack(Runtime& rt, const Tensor& w, Form form) {
  const auto bytes = static_cast<int64_t>(packed_weight_bytes(rt, DType::kBF16, w.rows(), w.cols(), form));
  Tensor packed = Tensor::empty(rt.memory(), {bytes}, DType::kU8);
  pack_weight(rt, w, DType::kBF16, form, packed);
  return packed;
}

nlohmann::json measure(Runtime& rt, int64_t m, int64_t n, int64_t k, int rounds) {
  Tensor w = Tensor::empty(rt.memory(), {n, k}, DType::kF32), x32 = Tensor::empty(rt.memory(), {m, k}, DType::kF32);
  fill_normal(rt, w, random_site(1, "w"), 0.02f, 0, 0);
  fill_normal(rt, x32, random_site(1, "x"), 1, 0, 0);
  Tensor x = Tensor::empty(rt.memory(), {m, k}, DType::kBF16), y = Tensor::empty(rt.memory(), {m, n}, DType::kBF16),
         y8 = Tensor::empty(rt.memory(), {m, n}, DType::kBF16);
  copy(rt, x32, x);
  Tensor packed = pack(rt, w, Form::kForward), packed8 = pack(rt, w, Form::kForwardInt8);
  std::vector<double> bf16, int8, ratio, pack_rate[4];
  for (int i = 0; i < rounds; ++i) {
    bf16.push_back(seconds_of([&] { matmul_forward(rt, x, packed, n, nullptr, y); }));
    int8.push_back(seconds_of([&] { int8_matmul_forward(rt, x, packed8, n, nullptr, y8); }));
    ratio.push_back(bf16.back() / int8.back());
  }
  const Form forms[] = {Form::kForward, Form::kInputGrad, Form::kForwardInt8, Form::kInputGradInt8};
  for (int f = 0; f < 4; ++f) {
    Tensor bytes = pack(rt, w, forms[f]);
    for (int i = 0; i < rounds / 4 + 1; ++i)
      pack_rate[f].push_back(static_cast<double>(w.num_elements()) * 1e-9 /
                             seconds_of([&] { pack_weight(rt, w, DType::kBF16, forms[f], bytes); }));
  }
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  return {{"m", m},
          {"n", n},
          {"k", k},
          {"bf16_gflops", flops / median(bf16) * 1e-9},
          {"int8_gflops", flops / median(int8) * 1e-9},
          {"ratio", median(ratio)},
          {"difference", difference(y8, y)},
          {"gelements_packed_per_s",
           {{"bf16_forward", median(pack_rate[0])},
            {"bf16_input_grad", median(pack_rate[1])},
            {"int8_forward", median(pack_rate[2])},
            {"int8_input_grad", median(pack_rate[3])}}}};
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"times int8 products beside bf16 ones"};
  int rounds = 30, threads = 0;
  int64_t rows = 1024;
  app.add_option("--rounds", rounds);
  app.add_option("--rows", rows);
  app.add_option("--threads", threads);
  CLI11_PARSE(app, argc, argv);
  deepflow::Runtime runtime({.threads = threads});
  nlohmann::json out = nlohmann::json::array();
  const int64_t extents[][2] = {{3072, 768}, {768, 3072}, {2304, 768}, {768, 768}, {768, 2304}};
  for (const auto& e : extents) out.push_back(deepflow::measure(runtime, rows, e[0], e[1], rounds));
  std::printf("%s\n", out.dump().c_str());
  return 0;
}
