// Times attention forward and backward, through the tape, for shapes that it reads from standard input, one a line:
//     BATCH SEQUENCE DOCUMENTS REPEATS
// 12 heads of 64, bf16, causal; DOCUMENTS equal documents in a sequence. Prints one JSON object for each line: medians
// of the seconds, and the peak of the allocator with all inputs and results in it.
#include "kernels/ops/attention.h"

#include "tests/bench/bench_store.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <iostream>
#include <memory>

namespace deepflow {
namespace {

constexpr int64_t kHeads = 12, kHeadDim = 64;

nlohmann::json measure(const RuntimeOptions& options, int64_t batch, int64_t sequence, int64_t documents, int repeats,
                       float softcap) {
  Runtime runtime(options);
  runtime.pool().adopt_caller();
  const std::unique_ptr<Stream> stream = make_cpu_stream();
  BenchStore store(runtime, DType::kBF16);
  const int64_t rows = batch * sequence;
  Tensor qkv = normal_tensor(runtime, {rows, 3 * kHeads * kHeadDim}, DType::kBF16, 1);
  const Tensor d_o = normal_tensor(runtime, {rows, kHeads * kHeadDim}, DType::kBF16, 2);
  AttentionShape shape;
  shape.heads = shape.kv_heads = kHeads;
  shape.head_dim = kHeadDim;
  shape.softcap = softcap;
  RowInfo info;
  info.batch = batch;
  info.sequence = sequence;
  if (documents > 1) {
    info.document_start = Tensor::empty(runtime.memory(), {rows}, DType::kI32);
    const int64_t length = sequence / documents;
    for (int64_t r = 0; r < rows; ++r)
      info.document_start.data<int32_t>()[r] = static_cast<int32_t>(r % sequence / length * length);
  }
  std::vector<double> total, forward;
  for (int i = -1; i < repeats; ++i) {
    Tape tape;
    ForwardContext context{runtime, *stream, store, &tape, DType::kBF16};
    context.training = true;
    context.rows = info;
    const Var leaf = tape.leaf(qkv);
    const double begin = seconds_now();
    const Var o = attention(context, leaf, shape);
    const double middle = seconds_now();
    BackwardContext back{runtime, *stream, store, {}};
    tape.root(o, {d_o, nullptr}, back);
    tape.backward(back);
    const double end = seconds_now();
    if (i < 0) continue;  // maps memory
    total.push_back(end - begin);
    forward.push_back(middle - begin);
  }
  return {{"seconds", median(total)}, {"forward", median(forward)}, {"peak", runtime.memory().stats().peak}};
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"times attention"};
  deepflow::RuntimeOptions options;
  float softcap = 0;
  app.add_option("--threads", options.threads);
  app.add_option("--softcap", softcap, "of the scores; 0: none");
  CLI11_PARSE(app, argc, argv);
  int64_t batch, sequence, documents;
  int repeats;
  while (std::cin >> batch >> sequence >> documents >> repeats) {
    std::printf("%s\n", deepflow::measure(options, batch, sequence, documents, repeats, softcap).dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}
