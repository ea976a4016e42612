// Times generation with a model folder: prefill beside a recorded forward pass of the same shape, decoding of one
// sequence and of several, and between them the rate at which the same threads read memory. Prints one JSON object.
#include "core/error.h"
#include "engine/generator.h"
#include "engine/prepare.h"
#include "engine/session.h"
#include "kernels/ops/elementwise.h"
#include "parallel/self_communicator.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kReadBytes = int64_t{512} << 20;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Bytes a second of a pass that only reads, over memory far beyond the caches, all threads; the best of a few.
class ReadRate {
 public:
  explicit ReadRate(Runtime& runtime)
      : runtime_(runtime), array_(Tensor::empty(runtime.memory(), {kReadBytes / 4}, DType::kF32)) {
    fill(runtime, array_, 1);
  }

  double measure() const {
    double best = 1e9;
    for (int pass = 0; pass < 4; ++pass) {
      const double begin = now();
      DF_ASSERT(all_finite(runtime_, array_));
      best = std::min(best, now() - begin);
    }
    return static_cast<double>(kReadBytes) / best;
  }

 private:
  Runtime& runtime_;
  Tensor array_;
};

// Tokens without a pattern, the same in decode_peer.py.
std::vector<int32_t> some_tokens(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((i * i * 7919 + 13) % vocabulary));
  return tokens;
}

// Seconds of the training forward pass up to the last norm, recorded on a tape.
double forward_seconds(Machine& machine, std::vector<int32_t> tokens) {
  const auto length = static_cast<int64_t>(tokens.size());
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  Tape tape;
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.tape = &tape;
  context.compute = machine.store.compute();
  context.training = true;
  context.rows.batch = 1;
  context.rows.sequence = length;
  context.rows.positions = Tensor::wrap(positions.data(), {length}, DType::kI32);
  const double begin = now();
  machine.model.hidden(context, Tensor::wrap(tokens.data(), {length}, DType::kI32));
  return now() - begin;
}

struct Shapes {
  int64_t prompt = 64, new_tokens = 128, batch = 16;  // decoding
  int64_t prefill_length = 512;
  int rounds = 5;
  bool paced = false;
};

GenerationFigures generate_greedily(Machine& machine, const std::vector<int32_t>& prompt, int64_t samples,
                                    int64_t count, std::vector<int32_t>* text = nullptr) {
  SamplingOptions sampling;
  sampling.temperature = 0;
  sampling.max_tokens = count;
  return generate(machine, prompt, samples, -1, sampling, [&](int64_t, int32_t token) {
    if (text) text->push_back(token);
  });
}

// What a decoding step of `samples` sequences reads: the forms that products read, and keys and values at their mean
// length.
double bytes_per_step(Session& session, const Shapes& s, int64_t samples) {
  const ModelShape& shape = session.model().shape();
  const double element = static_cast<double>(size_of(session.store().compute()));
  const double length = static_cast<double>(s.prompt) + 0.5 * static_cast<double>(s.new_tokens);
  return static_cast<double>(session.store().form_bytes()) +
         2 * element * length * static_cast<double>(shape.layers * shape.kv_heads * shape.head_dim * samples);
}

int run(const std::string& folder, const std::string& precision, int threads, const Shapes& s) {
  RunOptions options;
  options.model.init_from = find_model_folder(folder);
  options.train.precision = precision;
  options.train.threads = threads;
  complete_model(options, nullptr, nullptr);
  const std::unique_ptr<Communicator> comm = make_self_communicator("bench");
  Session session(options.model, session_options(options, *comm));
  set_initial_values(session, options);
  Machine machine = session.machine();
  const ReadRate memory(session.runtime());
  const std::vector<int32_t> prompt = some_tokens(s.prompt, session.model().shape().vocabulary);
  const std::vector<int32_t> long_prompt = some_tokens(s.prefill_length, session.model().shape().vocabulary);

  std::vector<double> one, many, prefill, forward, over_forward, share, many_share, batch_gain, rates;
  const auto step_rows = static_cast<double>(s.prefill_length);
  // A step chooses a token and runs a pass; the last token needs no pass behind it.
  const auto tokens_per_s = [&](int64_t samples) {
    const GenerationFigures f = generate_greedily(machine, prompt, samples, s.new_tokens);
    return static_cast<double>(f.new_tokens - samples) / f.decode_seconds;
  };
  if (s.paced) {  // a decoding for every line of input, so that a peer can run in turn
    for (std::string line; std::getline(std::cin, line);) {
      std::printf("%.6g\n", tokens_per_s(1));
      std::fflush(stdout);
    }
    return 0;
  }
  for (int round = 0; round <= s.rounds; ++round) {  // the first warms up
    const double rate = memory.measure();
    const double single = tokens_per_s(1);
    const double several = tokens_per_s(s.batch);
    const double filled = generate_greedily(machine, long_prompt, 1, 1).prefill_seconds;
    const double passed = forward_seconds(machine, long_prompt);
    if (round == 0) continue;
    rates.push_back(rate);
    one.push_back(single);
    many.push_back(several);
    batch_gain.push_back(several / single);
    share.push_back(single * bytes_per_step(session, s, 1) / rate);
    many_share.push_back(several / static_cast<double>(s.batch) * bytes_per_step(session, s, s.batch) / rate);
    prefill.push_back(step_rows / filled);
    forward.push_back(step_rows / passed);
    over_forward.push_back(passed / filled);
  }
  std::vector<int32_t> text;
  generate_greedily(machine, prompt, 1, s.new_tokens, &text);
  nlohmann::json out{{"tokens_per_s", median(one)},
                     {"batch_tokens_per_s", median(many)},
                     {"batch_gain", median(batch_gain)},
                     {"bandwidth_share", median(share)},
                     {"batch_bandwidth_share", median(many_share)},
                     {"read_gb_per_s", median(rates) * 1e-9},
                     {"bytes_per_token", bytes_per_step(session, s, 1)},
                     {"form_bytes", session.store().form_bytes()},
                     {"prefill_tokens_per_s", median(prefill)},
                     {"forward_tokens_per_s", median(forward)},
                     {"prefill_over_forward", median(over_forward)},
                     {"text", text}};
  std::printf("%s\n", out.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"times generation"};
  std::string folder, precision = "bf16";
  deepflow::Shapes shapes;
  int threads = 0;
  app.add_option("--model", folder, "run folder or Hugging Face folder")->required();
  app.add_option("--precision", precision);
  app.add_option("--threads", threads);
  app.add_option("--prompt", shapes.prompt, "tokens of the prompt");
  app.add_option("--new-tokens", shapes.new_tokens);
  app.add_option("--batch", shapes.batch, "sequences of the batched run");
  app.add_option("--prefill-length", shapes.prefill_length);
  app.add_option("--rounds", shapes.rounds);
  app.add_flag("--paced", shapes.paced, "decode one sequence for each line of input, print tokens a second");
  CLI11_PARSE(app, argc, argv);
  return deepflow::run(folder, precision, threads, shapes);
}
