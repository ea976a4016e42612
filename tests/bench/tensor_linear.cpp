// A column-parallel and a row-parallel linear map (in -> out -> in) on every rank: with replicated rows, with sequence
// parallelism plain and overlapped, beside the products alone. Run: tests/mpirun 2 build/bench_tensor_linear
#include "parallel/ops/tensor_linear.h"

#include "kernels/ops/linear.h"
#include "parallel/bootstrap.h"
#include "parallel/ops/deal.h"
#include "tests/bench/bench_store.h"

#include <CLI/CLI.hpp>

#include <cstdio>

namespace deepflow {
namespace {

struct Options {
  int64_t rows = 1024, in = 1024, out = 4096;
  int rounds = 15, threads = 1;
};

struct Times {
  double forward = 0, backward = 0;  // seconds, of the slowest rank
  int64_t sent = 0;                  // bytes of one rank, forward and backward
};

struct Bench {
  Bench(World& w, const Options& o) : world(w), options(o), runtime({.threads = o.threads}) {
    const int64_t local = o.out / w.size();
    column = &store.add("column", {local, o.in}, Role::kMatrix);
    row = &store.add("row", {o.in, local}, Role::kMatrix);
  }

  // The maps of a block; without `tp` the products alone.
  Times once(const TensorParallel* tp) {
    const Deal deal{options.rows, world.size()};
    const int64_t rows = tp && tp->sequence ? deal.count(world.rank()) : options.rows;
    Tape tape;
    ForwardContext forward{runtime, *stream, store};
    forward.tape = &tape;
    forward.compute = DType::kBF16;
    forward.rows.batch = 1;
    forward.rows.sequence = options.rows;
    BackwardContext backward{runtime, *stream, store,
                             [this](Tensor& into, const Tensor& x) { accumulate_gradient(runtime, into, x); }};
    const Var x = tape.leaf(normal_tensor(runtime, {rows, options.in}, DType::kBF16, 1));
    const Tensor dy = normal_tensor(runtime, {rows, options.in}, DType::kBF16, 2);
    const int64_t sent = world.all().bytes().sent;
    const double begin = together();
    const Var h = tp ? column_parallel_linear(forward, x, *column, nullptr, *tp) : linear(forward, x, *column, nullptr);
    const Var y = tp ? row_parallel_linear(forward, h, *row, nullptr, *tp) : linear(forward, h, *row, nullptr);
    const double middle = seconds_now();
    tape.root(y, {dy, nullptr}, backward);
    tape.backward(backward);
    const Grad dx = tape.take(x);
    if (dx.pending) dx.pending->wait(*stream);
    const double end = seconds_now();
    const int64_t sent_after = world.all().bytes().sent;
    const std::vector<double> slowest =
        max_doubles(world.all(), std::vector<double>{middle - begin, end - middle}, "times");
    return {slowest[0], slowest[1], sent_after - sent};
  }

  double together() {
    world.all().barrier("before")->wait_host();
    return seconds_now();
  }

  World& world;
  Options options;
  Runtime runtime;
  std::unique_ptr<Stream> stream = make_cpu_stream();
  BenchStore store{runtime, DType::kBF16};
  Pack *column, *row;
};

int run(World& world, const Options& options) {
  Bench bench(world, options);
  const TensorParallel replicated{&world.all(), false, true}, plain{&world.all(), true, false},
      overlapped{&world.all(), true, true};
  const struct {
    const char* name;
    const TensorParallel* tp;
  } layouts[] = {{"products", nullptr}, {"replicated", &replicated}, {"plain", &plain}, {"overlapped", &overlapped}};
  std::vector<double> forward[4], backward[4];
  Times last[4];
  for (int round = 0; round < options.rounds + 2; ++round)
    for (size_t i = 0; i < 4; ++i) {
      last[i] = bench.once(layouts[i].tp);
      if (round < 2) continue;
      forward[i].push_back(last[i].forward);
      backward[i].push_back(last[i].backward);
    }
  if (world.rank() != 0) return 0;
  std::printf("[");
  for (size_t i = 0; i < 4; ++i)
    std::printf("%s{\"layout\": \"%s\", \"forward_ms\": %.3f, \"backward_ms\": %.3f, \"sent_mb\": %.3f}", i ? ", " : "",
                layouts[i].name, median(forward[i]) * 1e3, median(backward[i]) * 1e3,
                static_cast<double>(last[i].sent) * 1e-6);
  std::printf("]\n");
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  deepflow::Options options;
  CLI::App app{"Linear maps cut over the ranks of the job"};
  app.add_option("--rows", options.rows);
  app.add_option("--in", options.in);
  app.add_option("--out", options.out);
  app.add_option("--threads", options.threads);
  app.add_option("--rounds", options.rounds);
  CLI11_PARSE(app, argc, argv);
  return deepflow::run_world({}, [&](deepflow::World& world) { return deepflow::run(world, options); });
}
