// Times training steps of one model on random tokens: forward, backward, clipping, AdamW, as the trainer does them.
// Under mpirun the ranks share the batch. Between steps it measures the packed GEMM rate of the same threads:
// gemm_gflops is the mean over the products of a block at the rows of a step, peak_gflops the best of a shape that
// suits the caches. Prints one JSON object.
#include "core/option.h"
#include "core/option_yaml.h"
#include "engine/gemm_peak.h"
#include "engine/prepare.h"
#include "engine/session.h"
#include "engine/trainer.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"
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

// The packed products of one block at the rows of a step, as the step itself multiplies: their mean rate.
class BlockProducts {
 public:
  BlockProducts(Session& session, int64_t rows) : runtime_(session.runtime()), dtype_(session.store().compute()) {
    for (Pack& pack : session.registry().packs()) {
      if (pack.role() != Role::kMatrix || products_.size() == 4) continue;
      Product p{pack.rows, pack.cols, tensor(rows, pack.cols), tensor(rows, pack.rows), {}, {}};
      for (const Form form : {Form::kForward, Form::kInputGrad}) {
        Tensor& packed = form == Form::kForward ? p.forward : p.input_grad;
        const size_t bytes = packed_weight_bytes(runtime_, dtype_, pack.rows, pack.cols, form);
        packed = Tensor::empty(runtime_.memory(), {static_cast<int64_t>(bytes)}, DType::kU8);
        pack_weight(runtime_, session.store().master(pack), dtype_, form, packed);
      }
      products_.push_back(std::move(p));
    }
  }

  double flops_per_second() {
    double flops = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (int repeat = 0; repeat < 2; ++repeat)
      for (Product& p : products_) {
        matmul_forward(runtime_, p.x, p.forward, p.out, nullptr, p.y);
        matmul_input_grad(runtime_, p.y, p.input_grad, p.in, p.x);
        flops += 4.0 * static_cast<double>(p.x.rows() * p.in * p.out);
      }
    return flops / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

 private:
  struct Product {
    int64_t out, in;
    Tensor x, y, forward, input_grad;
  };
  Tensor tensor(int64_t rows, int64_t cols) {
    Tensor t = Tensor::empty(runtime_.memory(), {rows, cols}, dtype_);
    fill(runtime_, t, 0.01f);
    return t;
  }

  Runtime& runtime_;
  DType dtype_;
  std::vector<Product> products_;
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
  options.parallel.zero = asked.zero;
  Mesh mesh(comm, layout_of(options.parallel, comm.size()));
  Session session(options.model, session_options(options, comm), mesh, options.parallel, sequence);
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
  Trainer trainer(session.machine(), options.train, options.optim, options.parallel, loader);

  const DType dtype = session.store().compute();
  std::unique_ptr<BlockProducts> products;
  rusage usage{};
  MemoryStats memory;
  std::vector<double> seconds, rates, peaks, losses;
  for (int i = 0; i < asked.steps; ++i) {
    const StepReport r = trainer.step();
    losses.push_back(r.loss);
    if (i < 2) continue;
    seconds.push_back(r.seconds);
    if (!products) {  // steps are in their steady state, and what follows is not theirs
      getrusage(RUSAGE_SELF, &usage);
      memory = session.runtime().memory().stats();
      products = std::make_unique<BlockProducts>(session, batch * sequence / comm.size());
    }
    rates.push_back(products->flops_per_second());
    peaks.push_back(measure_gemm_peak(session.runtime(), dtype, 0.03));
  }
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
                     {"peak_gflops", median(peaks) * 1e-9},
                     {"peak_share", flops / step / median(peaks)},
                     {"rss", usage.ru_maxrss * 1024.0},
                     {"memory_peak", memory.peak},
                     {"memory_mapped", memory.reserved},
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
