// Times every op of a GPT-2 124M block and of a Llama-135M block at 1,024 rows in bf16, and says how far each is from
// its floor. Prints one JSON object: the rates measured in this run, and for every op its counts, floor and time.
//
// Operands come from memory: calls rotate over buffers larger than any cache. Counts of one call:
//   bytes         what crosses the memory bus: reads and writes, and what is written to fresh lines once more, because
//                 the processor reads such lines first
//   flops         of products only
//   instructions  vector instructions other than loads and stores, counted in the kernels' sources; a conversion from
//                 bf16 is 2, to bf16 1, an exponential 15 (7 for results in bf16), a division or square root 8
// floor: the larger of the time for the bytes and of flops over the packed GEMM rate plus instructions over the rate at
// which this machine issues vector FMAs (they share the units). The time for the bytes is the larger of all bytes over
// the bandwidth of reading and writing and of the bytes read over the bandwidth of reading. The rates are
// measured right before and behind every op.
#include "engine/gemm_peak.h"
#include "kernels/ops/activation.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/dropout.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/head_loss.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/optimizer_update.h"
#include "kernels/ops/rope.h"
#include "optim/optimizer.h"
#include "tests/bench/bench_store.h"
#include "tests/bench/machine_rates.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>

namespace deepflow {
namespace {

constexpr int64_t kRows = 1024;
constexpr double kRotation = 160e6;  // bytes that the calls of a round touch

struct Counts {
  double read, written, flops, instructions;  // written: what was not read before counts as read as well
  double bytes() const { return read + written; }
};
// Of r bytes read, u read and written in place, w written to fresh lines.
Counts counts(double r, double u, double w, double flops, double instructions) {
  return {r + u + w, u + w, flops, instructions};
}

// A forward pass on a tape of its own, kept until its backward pass is timed.
struct Recorded {
  Tape tape;
  std::vector<Var> outputs;
};

class OpsBench {
 public:
  OpsBench(const RuntimeOptions& options, int rounds, const std::string& only)
      : runtime_(options),
        stream_(make_cpu_stream()),
        store_(runtime_, DType::kBF16),
        rounds_(rounds),
        only_(only),
        probe_(runtime_) {
    runtime_.pool().adopt_caller();
    lanes_ = runtime_.isa() == CpuIsa::kAvx2 ? 8 : 16;
  }

  void gpt2();
  void llama();
  void optimizers();
  nlohmann::json result() const;

 private:
  using Call = std::function<void()>;

  int slots(double bytes) const { return std::clamp(static_cast<int>(kRotation / bytes) + 1, 2, 96); }
  Tensor normal(const Shape& shape, DType dtype) { return normal_tensor(runtime_, shape, dtype, ++key_); }
  Tensor clone(const Tensor& t) {
    Tensor result = Tensor::empty(runtime_.memory(), t.shape(), t.dtype());
    copy(runtime_, t, result);
    return result;
  }
  RowInfo rows(int64_t batch) {
    RowInfo info;
    info.batch = batch;
    info.sequence = kRows / batch;
    info.positions = Tensor::empty(runtime_.memory(), {kRows}, DType::kI32);
    info.row_ids = Tensor::empty(runtime_.memory(), {kRows}, DType::kI64);
    for (int64_t r = 0; r < kRows; ++r) {
      info.positions.data<int32_t>()[r] = static_cast<int32_t>(r % info.sequence);
      info.row_ids.data<int64_t>()[r] = r;
    }
    return info;
  }
  ForwardContext forward_context(Tape* tape) {
    ForwardContext context{runtime_, *stream_, store_, tape, DType::kBF16};
    context.training = true;
    context.rows = info_;
    return context;
  }
  BackwardContext backward_context() { return {runtime_, *stream_, store_, {}}; }

  // Seconds of one call: `prepare(slot)`, untimed, makes the call of every slot of a round.
  double time(int count, const std::function<Call(int)>& prepare);
  void report(const std::string& name, const Counts& counts, const std::function<Call(int)>& prepare,
              double products = 0);  // seconds that do not belong to the op

  using Forward = std::function<std::vector<Var>(ForwardContext&, int slot, const std::vector<Var>& inputs)>;
  // Forward and backward of an op whose inputs and outputs are rotated. Backward alone owns what forward saved and the
  // gradients it gets, as in a training step, and may overwrite them.
  void op(const std::string& name, const Counts& forward, const Counts& backward,
          const std::vector<std::pair<Shape, DType>>& inputs, const Forward& run);
  void attention_op(const std::string& name, int64_t heads, int64_t kv_heads);
  void norm_ops(const std::string& kind, int64_t width, double forward_work, double backward_work,
                const std::function<NormResult(ForwardContext&, const Var&, const std::optional<Var>&)>& norm);
  void linear_ops(const std::string& name, int64_t in, int64_t out);
  void head(int64_t width, int64_t vocabulary);
  void embedding_ops(int64_t width, int64_t vocabulary);
  void rope_op(int64_t heads, int64_t columns);
  double vectors(double elements) const { return elements / static_cast<double>(lanes_); }

  Runtime runtime_;
  std::unique_ptr<Stream> stream_;
  BenchStore store_;
  int rounds_;
  std::string only_;
  int64_t lanes_;
  RateProbe probe_;
  std::vector<double> reads_, bandwidths_, issues_, gemms_;
  nlohmann::json ops_ = nlohmann::json::object();
  uint64_t key_ = 0;
  RowInfo info_;
};

double OpsBench::time(int count, const std::function<Call(int)>& prepare) {
  std::vector<double> seconds;
  for (int round = -1; round < rounds_; ++round) {
    std::vector<Call> calls;
    for (int slot = 0; slot < count; ++slot) calls.push_back(prepare(slot));
    const double begin = seconds_now();
    for (const Call& call : calls) call();
    if (round >= 0) seconds.push_back((seconds_now() - begin) / count);
  }
  return median(seconds);
}

void OpsBench::report(const std::string& name, const Counts& counts, const std::function<Call(int)>& prepare,
                      double products) {
  if (name.find(only_) == std::string::npos) return;
  // Memory is shared with neighbours: the rates around the op count.
  const MachineRates before = probe_.measure();
  const double gemm = measure_gemm_peak(runtime_, DType::kBF16, 0.02);
  const double seconds = time(slots(counts.bytes()), prepare) - products;
  const MachineRates after = probe_.measure();
  const MachineRates rates{(before.read + after.read) / 2, (before.bandwidth + after.bandwidth) / 2,
                           (before.fma_issue + after.fma_issue) / 2};
  reads_.push_back(rates.read);
  bandwidths_.push_back(rates.bandwidth);
  issues_.push_back(rates.fma_issue);
  gemms_.push_back(gemm);
  const double memory = std::max(counts.bytes() / rates.bandwidth, counts.read / rates.read);
  const double arithmetic = counts.flops / gemm + counts.instructions / rates.fma_issue;
  ops_[name] = {{"bytes", counts.bytes()},
                {"flops", counts.flops},
                {"instructions", counts.instructions},
                {"memory", memory},
                {"arithmetic", arithmetic},
                {"seconds", seconds},
                {"ratio", seconds / std::max(memory, arithmetic)}};
}

nlohmann::json OpsBench::result() const {
  return {{"read", median(reads_)},
          {"bandwidth", median(bandwidths_)},
          {"fma_issue", median(issues_)},
          {"gemm", median(gemms_)},
          {"ops", ops_}};
}

void OpsBench::op(const std::string& name, const Counts& forward, const Counts& backward,
                  const std::vector<std::pair<Shape, DType>>& inputs, const Forward& run) {
  const int count = std::max(slots(forward.bytes()), slots(backward.bytes()));
  std::vector<std::vector<Tensor>> tensors(static_cast<size_t>(count));
  for (auto& slot : tensors)
    for (const auto& [shape, dtype] : inputs) slot.push_back(normal(shape, dtype));
  const auto vars = [&](int slot, Tape* tape) {
    std::vector<Var> result;
    for (const Tensor& t : tensors[static_cast<size_t>(slot)]) result.push_back(tape ? tape->leaf(clone(t)) : Var{t});
    return result;
  };
  std::vector<std::vector<Var>> results(static_cast<size_t>(count));
  report(name, forward, [&](int slot) -> Call {
    return [&, slot] {
      ForwardContext context = forward_context(nullptr);
      results[static_cast<size_t>(slot)].clear();
      results[static_cast<size_t>(slot)] = run(context, slot, vars(slot, nullptr));
    };
  });
  results.clear();
  if (backward.bytes() == 0) return;
  report(name + " backward", backward, [&](int slot) -> Call {
    const auto recorded = std::make_shared<Recorded>();
    ForwardContext context = forward_context(&recorded->tape);
    recorded->outputs = run(context, slot, vars(slot, &recorded->tape));
    const auto back = std::make_shared<BackwardContext>(backward_context());
    for (Var& v : recorded->outputs) recorded->tape.root(v, {clone(v.value), nullptr}, *back);
    recorded->outputs.clear();
    return [recorded, back] { recorded->tape.backward(*back); };
  });
}

void OpsBench::attention_op(const std::string& name, int64_t heads, int64_t kv_heads) {
  constexpr int64_t kHeadDim = 64;
  AttentionShape shape;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = kHeadDim;
  const auto m = static_cast<double>(kRows), width = static_cast<double>(heads * kHeadDim);
  const auto all = static_cast<double>((heads + 2 * kv_heads) * kHeadDim);
  const double area = static_cast<double>(heads) * m * static_cast<double>(info_.sequence + 1) / 2;
  op(name, counts(m * all * 2, 0, m * width * 2, 4 * kHeadDim * area, 11 * vectors(area)),
     counts(m * 2 * width * 2, m * all * 2, 0, 10 * kHeadDim * area, 14 * vectors(area)),
     {{{kRows, (heads + 2 * kv_heads) * kHeadDim}, DType::kBF16}},
     [shape](ForwardContext& context, int, const std::vector<Var>& in) {
       return std::vector<Var>{attention(context, in[0], shape)};
     });
}

void OpsBench::norm_ops(const std::string& kind, int64_t width, double forward_work, double backward_work,
                        const std::function<NormResult(ForwardContext&, const Var&, const std::optional<Var>&)>& norm) {
  const auto n = static_cast<double>(kRows * width);
  op(kind, counts(n * 4, 0, n * 2, 0, (forward_work - 3) * vectors(n)), {}, {{{kRows, width}, DType::kF32}},
     [norm](ForwardContext& context, int, const std::vector<Var>& in) {
       return std::vector<Var>{norm(context, in[0], std::nullopt).normed};
     });
  // Backward: r, dy in place as ddelta, dr in place as dx.
  op("residual + " + kind, counts(n * 6, 0, n * 6, 0, forward_work * vectors(n)),
     counts(n * 4, n * 6, 0, 0, backward_work * vectors(n)),
     {{{kRows, width}, DType::kF32}, {{kRows, width}, DType::kBF16}},
     [norm](ForwardContext& context, int, const std::vector<Var>& in) {
       NormResult r = norm(context, in[0], in[1]);
       return std::vector<Var>{r.residual, r.normed};
     });
}

void OpsBench::linear_ops(const std::string& name, int64_t in, int64_t out) {
  const auto m = static_cast<double>(kRows), i = static_cast<double>(in), o = static_cast<double>(out);
  const double flops = 2 * m * i * o;
  const Counts forward = counts((m + o) * i * 2, 0, m * o * 2, flops, 0);
  const Counts input = counts((m + i) * o * 2, 0, m * i * 2, flops, 0);
  const Counts weight = counts(m * (i + o) * 2, 0, i * o * 4, flops, 0);
  const int count = std::max({slots(forward.bytes()), slots(input.bytes()), slots(weight.bytes())});
  std::vector<Pack*> packs;
  std::vector<Tensor> x;
  for (int slot = 0; slot < count; ++slot) {
    packs.push_back(&store_.add(fmt::format("{}.{}", name, slot), {out, in}, Role::kMatrix));
    x.push_back(normal({kRows, in}, DType::kBF16));
  }
  for (const Form form : {Form::kForward, Form::kInputGrad})
    report(fmt::format("pack {} {}", name, form == Form::kForward ? "forward" : "dx"),
           counts(i * o * 4, 0, i * o * 2, 0, vectors(2 * i * o)), [&, form](int slot) -> Call {
             return [&, form, pack = packs[static_cast<size_t>(slot) % packs.size()]] {
               Tensor packed = store_.acquire(*pack, form, *stream_);
               pack_weight(runtime_, store_.acquire(*pack, Form::kMaster, *stream_), DType::kBF16, form, packed);
             };
           });
  std::vector<Var> results(static_cast<size_t>(count));
  report(name, forward, [&](int slot) -> Call {
    return [&, at = static_cast<size_t>(slot)] {
      ForwardContext context = forward_context(nullptr);
      results[at] = {};
      results[at] = linear(context, {x[at]}, *packs[at], nullptr);
    };
  });
  results.clear();
  for (const bool weights : {false, true})
    report(name + (weights ? " dW" : " dx"), weights ? weight : input, [&, weights](int slot) -> Call {
      const auto at = static_cast<size_t>(slot);
      const auto recorded = std::make_shared<Recorded>();
      ForwardContext context = forward_context(&recorded->tape);
      const Var y = linear(context, recorded->tape.leaf(x[at]), *packs[at], nullptr);
      const auto back = std::make_shared<BackwardContext>(backward_context());
      recorded->tape.root(y, {clone(y.value), nullptr}, *back);
      if (!weights) return [recorded, back] { recorded->tape.backward_input(*back); };
      recorded->tape.backward_input(*back);
      return [recorded, back] { recorded->tape.backward_weight(*back); };
    });
}

// The op less its products, which are timed apart in the same chunks.
void OpsBench::head(int64_t width, int64_t vocabulary) {
  const std::string name = "cross-entropy";
  if (name.find(only_) == std::string::npos) return;
  Pack& pack = store_.add("head", {vocabulary, width}, Role::kHead);
  const Tensor x = normal({kRows, width}, DType::kBF16);
  Tensor labels = Tensor::empty(runtime_.memory(), {kRows}, DType::kI32);
  Tensor weights = Tensor::empty(runtime_.memory(), {kRows}, DType::kF32);
  for (int64_t r = 0; r < kRows; ++r) labels.data<int32_t>()[r] = static_cast<int32_t>(r * 37 % vocabulary);
  fill(runtime_, weights, 1.0f / static_cast<float>(kRows));
  const auto n = static_cast<double>(kRows * pack.physical_rows);
  Tensor logits = Tensor::empty(runtime_.memory(), {kRows, pack.physical_rows}, DType::kBF16);
  const Tensor packed = store_.acquire(pack, Form::kForward, *stream_);
  const double products = time(1, [&](int) -> Call {
    return [&] {
      constexpr int64_t kChunk = 256;
      for (int64_t r = 0; r < kRows; r += kChunk) {
        Tensor chunk = logits.row_range(r, r + kChunk);
        matmul_forward(runtime_, x.row_range(r, r + kChunk), packed, pack.physical_rows, nullptr, chunk);
      }
    };
  });
  logits = {};
  // Logits read, and overwritten in place by their gradient.
  report(
      name, counts(0, n * 2, 0, 0, 28 * vectors(n)),
      [&](int) -> Call {
        return [&] {
          Tape tape;
          ForwardContext context = forward_context(&tape);
          head_loss(context, tape.leaf(x), pack, labels, weights);
        };
      },
      products);
}

void OpsBench::embedding_ops(int64_t width, int64_t vocabulary) {
  if (std::string("embedding backward").find(only_) == std::string::npos) return;
  Pack& table = store_.add("embedding", {vocabulary, width}, Role::kEmbedding);
  Pack& positions = store_.add("positions", {kRows, width}, Role::kEmbedding);
  const int count = slots(static_cast<double>(kRows * width) * 12);
  std::vector<Tensor> tokens;
  for (int slot = 0; slot < count; ++slot) {
    tokens.push_back(Tensor::empty(runtime_.memory(), {kRows}, DType::kI32));
    for (int64_t r = 0; r < kRows; ++r)
      tokens.back().data<int32_t>()[r] = static_cast<int32_t>((r + slot * kRows) * 7919 % vocabulary);
  }
  const auto n = static_cast<double>(kRows * width), p = static_cast<double>(info_.sequence * width);
  store_.set_accumulate(true);  // behind the head, with which the table is shared
  op("embedding", counts(n * 4 + p * 4, 0, n * 4, 0, vectors(n)), counts(n * 4, (n + p) * 4, 0, 0, 2 * vectors(n)), {},
     [&](ForwardContext& context, int slot, const std::vector<Var>&) {
       return std::vector<Var>{
           embedding(context, tokens[static_cast<size_t>(slot) % tokens.size()], table, &positions)};
     });
  store_.set_accumulate(false);
}

void OpsBench::rope_op(int64_t heads, int64_t columns) {
  RopeOptions options;
  options.max_positions = kRows;
  const RopeTable table = make_rope_table(runtime_, options);
  const auto n = static_cast<double>(kRows * heads * options.head_dim);
  op("rope", counts(0, n * 2, 0, 0, 5.5 * vectors(n)), counts(0, n * 2, 0, 0, 5.5 * vectors(n)),
     {{{kRows, columns}, DType::kBF16}}, [=](ForwardContext& context, int, const std::vector<Var>& in) {
       return std::vector<Var>{rope(context, in[0], heads, table)};
     });
}

void OpsBench::gpt2() {
  constexpr int64_t kWidth = 768, kInner = 3072, kVocabulary = 50257;
  info_ = rows(4);
  Pack& gain = store_.add("gain", {kWidth}, Role::kNorm);
  Pack& bias = store_.add("bias", {kWidth}, Role::kBias);
  embedding_ops(kWidth, kVocabulary);
  norm_ops("layer_norm", kWidth, 11, 19, [&](ForwardContext& context, const Var& x, const std::optional<Var>& delta) {
    return layer_norm(context, x, delta, gain, &bias, 1e-5f);
  });
  linear_ops("linear 768 -> 2304", kWidth, 3 * kWidth);
  attention_op("attention 12 heads, T=256", 12, 12);
  linear_ops("linear 768 -> 768", kWidth, kWidth);
  linear_ops("linear 768 -> 3072", kWidth, kInner);
  const auto n = static_cast<double>(kRows * kInner), d = static_cast<double>(kRows * kWidth);
  op("gelu", counts(n * 2, 0, n * 2, 0, 20 * vectors(n)), counts(n * 2, n * 2, 0, 0, 27 * vectors(n)),
     {{{kRows, kInner}, DType::kBF16}}, [](ForwardContext& context, int, const std::vector<Var>& in) {
       return std::vector<Var>{gelu(context, in[0], GeluKind::kTanh)};
     });
  linear_ops("linear 3072 -> 768", kInner, kWidth);
  op("dropout", counts(d * 2, 0, d * 2, 0, 53 * vectors(d)), counts(0, d * 2, 0, 0, 53 * vectors(d)),
     {{{kRows, kWidth}, DType::kBF16}}, [](ForwardContext& context, int, const std::vector<Var>& in) {
       return std::vector<Var>{dropout(context, in[0], 0.1f, "bench")};
     });
  head(kWidth, kVocabulary);
  std::vector<Tensor> dy;
  for (int slot = 0; slot < slots(n * 2); ++slot) dy.push_back(normal({kRows, kInner}, DType::kBF16));
  GradientTarget sums{Tensor::empty(runtime_.memory(), {kInner}, DType::kF32), false};
  report("column_sums", counts(n * 2, 0, 0, 0, 3 * vectors(n)),
         [&](int slot) -> Call { return [&, slot] { column_sums(runtime_, dy[static_cast<size_t>(slot)], sums); }; });
}

void OpsBench::llama() {
  constexpr int64_t kWidth = 576, kInner = 1536, kHeads = 9, kKvHeads = 3;
  info_ = rows(2);
  Pack& gain = store_.add("rms gain", {kWidth}, Role::kNorm);
  norm_ops("rms_norm", kWidth, 7, 14, [&](ForwardContext& context, const Var& x, const std::optional<Var>& delta) {
    return rms_norm(context, x, delta, gain, 1e-5f);
  });
  linear_ops("linear 576 -> 960", kWidth, (kHeads + 2 * kKvHeads) * 64);
  rope_op(kHeads + kKvHeads, (kHeads + 2 * kKvHeads) * 64);
  attention_op("attention 9 heads / 3 keys, T=512", kHeads, kKvHeads);
  linear_ops("linear 576 -> 3072", kWidth, 2 * kInner);
  const auto n = static_cast<double>(kRows * kInner);
  op("swiglu", counts(n * 4, 0, n * 2, 0, 19 * vectors(n)), counts(n * 2, n * 4, 0, 0, 26 * vectors(n)),
     {{{kRows, 2 * kInner}, DType::kBF16}},
     [](ForwardContext& context, int, const std::vector<Var>& in) { return std::vector<Var>{swiglu(context, in[0])}; });
  linear_ops("linear 1536 -> 576", kInner, kWidth);
}

void OpsBench::optimizers() {
  constexpr int64_t kElements = 12 * 768 * 768;  // a block of GPT-2 124M
  const auto n = static_cast<double>(kElements);
  std::vector<Tensor> t;
  for (int i = 0; i < 4; ++i) {
    t.push_back(Tensor::empty(runtime_.memory(), {kElements}, DType::kF32));
    fill(runtime_, t.back(), 0.01f);
  }
  std::vector<Tensor> halves;
  for (int i = 0; i < 4; ++i) halves.push_back(Tensor::empty(runtime_.memory(), {kElements}, DType::kBF16));
  int64_t step = 0;
  report("adamw", counts(n * 4, n * 12, 0, 0, 25 * vectors(n)), [&](int) -> Call {
    return [&] { adamw_update(runtime_, {1e-5, 0.9, 0.95, 1e-8, 0.1, ++step, 1}, t[0], t[1], t[2], t[3]); };
  });
  // As a step does it: over parameters, both packed forms written past the caches.
  ParameterRegistry registry;
  for (int i = 0; i < 12; ++i) {
    ParameterSpec spec;
    spec.name = fmt::format("w{}", i);
    spec.shape = {768, 768};
    spec.init = Initialiser::normal(0.02f);
    registry.add(spec);
  }
  registry.freeze({});
  ResidentStore store(runtime_, registry, DType::kBF16);
  store.initialise(1);
  store.begin_step(1, nullptr);
  for (Pack& pack : registry.packs()) {
    Tensor gradient = store.gradient(pack).value;
    fill(runtime_, gradient, 0.01f);
    for (const Form form : {Form::kForward, Form::kInputGrad}) store.acquire(pack, form, *stream_);
  }
  const ShardMap shards(store.buckets(), 1, UpdateUnit::kRow);
  const auto optimizer = find_optimizer("adamw").make({}, {runtime_, store, shards.pieces(0), {}});
  report("adamw and both packed forms", Counts{n * 16, n * 16, 0, 30 * vectors(n)}, [&](int) -> Call {
    return [&] { optimizer->update({++step, 1e-5, 1}); };
  });
  report("sgd with momentum", counts(n * 4, n * 8, 0, 0, 4 * vectors(n)), [&](int) -> Call {
    return [&] { sgd_update(runtime_, {1e-5, 0.9, 0, false, false, 1}, t[0], t[1], t[3]); };
  });
  double sum = 0;
  report("sum_squares", counts(n * 4, 0, 0, 0, 5 * vectors(n)), [&](int slot) -> Call {
    return [&, slot] { sum += sum_squares(runtime_, t[static_cast<size_t>(slot) % 4]); };
  });
  report("copy f32 to bf16", counts(n * 4, 0, n * 2, 0, vectors(n)), [&](int slot) -> Call {
    return [&, at = static_cast<size_t>(slot) % 4] { copy(runtime_, t[at], halves[at]); };
  });
  report("add_into f32", counts(n * 4, n * 4, 0, 0, vectors(n)), [&](int slot) -> Call {
    return [&, at = static_cast<size_t>(slot) % 2] { add_into(runtime_, t[at], t[at + 2]); };
  });
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"times every op of a block against its floor"};
  deepflow::RuntimeOptions options;
  int rounds = 7;
  std::string only;
  app.add_option("--threads", options.threads);
  app.add_option("--rounds", rounds);
  app.add_option("--only", only, "ops whose name contains this");
  CLI11_PARSE(app, argc, argv);
  deepflow::OpsBench bench(options, rounds, only);
  bench.gpt2();
  bench.llama();
  bench.optimizers();
  std::printf("%s\n", bench.result().dump().c_str());
  return 0;
}
