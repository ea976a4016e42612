// Random layouts against one rank, for tests/bench/random_layouts.py: every rank runs this program. Prints one JSON
// object a case on rank 0.

#include "core/error.h"
#include "parallel/bootstrap.h"
#include "tests/engine/random_layout.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace deepflow {
namespace {

using namespace testing;

constexpr int kSteps = 20;

struct Request {
  int64_t cases = 10, first = 0;
  uint64_t seed = 1;
};

double worst(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]) / std::abs(b[i]));
  return most;
}

// Losses and norms of one rank, known to all.
std::vector<double> alone(TinyOptions options, Communicator& all) {
  std::vector<double> curve(2 * kSteps);
  if (all.rank() == 0) {
    options.parallel = {};
    curve = TinyRun(options).curve(kSteps);
  }
  all.broadcast(Tensor::wrap(curve.data(), {static_cast<int64_t>(curve.size() * sizeof(double))}, DType::kU8), 0,
                "curve")
      ->wait_host();
  return curve;
}

int run(World& world, const Request& asked) {
  for (int64_t i = asked.first; i < asked.first + asked.cases; ++i) {
    const LayoutCase c = draw_layout(asked.seed, i, world.size());

    const std::vector<double> expected = alone(c.options, world.all());
    const std::vector<double> got = TinyRun(c.options, &world.all()).curve(kSteps);
    const std::vector<double> again = TinyRun(c.options, &world.all()).curve(kSteps);
    const nlohmann::json line{
        {"case", i}, {"layout", c.text}, {"max_rel", worst(got, expected)}, {"bit_identical", got == again}};
    if (world.rank() == 0) std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"random layouts against one rank"};
  deepflow::Request asked;
  app.add_option("--cases", asked.cases);
  app.add_option("--first", asked.first, "number of the first case");
  app.add_option("--seed", asked.seed);
  CLI11_PARSE(app, argc, argv);
  return deepflow::run_world({}, [&](deepflow::World& world) { return deepflow::run(world, asked); });
}
