// Times training steps of one model on random tokens: forward, backward, clipping, AdamW, as the trainer does them.
// Between steps it measures the packed GEMM rate of the same threads. Under mpirun the ranks split the batch. Rank 0
// prints one JSON object.
#include "core/option.h"
#include "core/option_yaml.h"
#include "engine/gemm_peak.h"
#include "engine/prepare.h"
#include "engine/session.h"
#include "engine/trainer.h"
#include "parallel/bootstrap.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

namespace deepflow {
namespace {

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Uniformly random tokens in memory, seen as a store.
class RandomTokens final : public TokenStore {
 public:
  RandomTokens(int64_t count, int64_t vocabulary) : TokenStore("random tokens") {
    num_tokens_ = count;
    vocabulary_size_ = vocabulary;
    digest_ = "random";
    document_offsets_ = {0, count};
  }
  const char* format() const override { return "random"; }
  void verify() const override {}

 protected:
  void read_tokens(int64_t first, std::span<int32_t> out) const override {
    std::mt19937_64 rng(static_cast<uint64_t>(first));
    for (int32_t& t : out) t = static_cast<int32_t>(rng() % static_cast<uint64_t>(vocabulary_size_));
  }
};

struct Request {
  std::string model, precision = "bf16", forms = "auto";
  int64_t batch = 4, sequence = 256;
  int steps = 8, threads = 0, zero = 0;
};

int run(World& world, const Request& asked) {
  const int64_t batch = asked.batch, sequence = asked.sequence;
  RunOptions options;
  OptionGroup keys;
  declare(keys, options);
  OptionValue tree = parse_yaml("model: " + asked.model, "--model");
  keys.read(tree);
  options.data.sequence = sequence;
  options.train.precision = asked.precision;
  options.train.threads = asked.threads;
  options.train.weight_forms = asked.forms;
  options.train.global_batch = batch;
  options.train.steps = asked.steps;
  options.optim.lr = 3e-4;
  options.model.fill_in(0, sequence, nullptr);
  Communicator& comm = world.all();
  Session session(options.model, session_options(options, comm), comm, {});
  session.store().initialise(1);
  const int64_t vocabulary = session.model().shape().vocabulary;
  SampleOptions cut;
  cut.sequence = sequence;
  cut.shuffle = false;
  auto source = std::make_shared<SampleSource>(
      std::vector<WeightedStore>{{std::make_shared<RandomTokens>(int64_t{1} << 24, vocabulary), 1}}, cut);
  LoaderOptions loading;
  loading.global_batch = batch;
  loading.rank = comm.rank();
  loading.size = comm.size();
  Loader loader(source, loading);
  Trainer trainer(session.machine(), options.train, options.optim, asked.zero, loader);

  const DType dtype = session.store().compute();
  std::vector<double> seconds, rates, losses;
  for (int i = 0; i < asked.steps; ++i) {
    const StepReport r = trainer.step();
    losses.push_back(r.loss);
    if (i < 2) continue;
    seconds.push_back(r.seconds);
    rates.push_back(measure_gemm_peak(session.runtime(), dtype, 0.03));
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const ModelShape& shape = session.model().shape();
  // 6 N T for the matrix products and the unmasked half of attention.
  const double flops = static_cast<double>(batch * sequence) *
                       (training_flops_per_token(shape, session.registry(), 0) +
                        6.0 * static_cast<double>(shape.layers * shape.heads * shape.head_dim * (sequence + 1)));
  const double step = median(seconds);
  nlohmann::json out{{"seconds", step},
                     {"tokens_per_s", static_cast<double>(batch * sequence) / step},
                     {"gemm_gflops", median(rates) * 1e-9},
                     {"gemm_share", flops / step / median(rates)},
                     {"rss", usage.ru_maxrss * 1024.0},
                     {"memory_peak", session.runtime().memory().stats().peak},
                     {"memory_mapped", session.runtime().memory().stats().reserved},
                     {"first_loss", losses.front()},
                     {"last_loss", losses.back()}};
  if (comm.rank() == 0) std::printf("%s\n", out.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"times training steps"};
  deepflow::Request asked;
  app.add_option("--model", asked.model, "the recipe's model section, YAML flow style")->required();
  app.add_option("--batch", asked.batch);
  app.add_option("--sequence", asked.sequence);
  app.add_option("--steps", asked.steps);
  app.add_option("--precision", asked.precision);
  app.add_option("--threads", asked.threads, "of a rank; 0: its share of the cores");
  app.add_option("--weight-forms", asked.forms);
  app.add_option("--zero", asked.zero);
  CLI11_PARSE(app, argc, argv);
  return deepflow::run_world({}, [&](deepflow::World& world) { return deepflow::run(world, asked); });
}
