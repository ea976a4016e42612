#include "kernels/ops/elementwise.h"
#include "optim/gradient_norm.h"
#include "optim/loss_scale.h"
#include "parallel/exchange/dense.h"
#include "tests/parallel/mpi_test.h"
#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

namespace deepflow {
namespace {

using namespace testing;

float gradient_element(const Parameter& p, int64_t i) { return random_normal(random_site(3, p.spec.name), 0, i); }

// Every rank contributes 1 / size of the same gradient.
struct Fixture {
  Communicator& comm = test_world().all();
  Runtime runtime{{.threads = 1}};
  std::unique_ptr<Stream> stream = make_cpu_stream();
  ParameterRegistry registry;
  std::unique_ptr<ResidentStore> store;
  std::unique_ptr<ShardMap> shards;
  std::vector<ShardPiece> counted;
  std::unique_ptr<DenseExchange> exchange;

  explicit Fixture(int zero) {
    add_random_parameters(registry, 21, 12);
    registry.freeze({{"dp", comm.rank(), comm.size()}});
    store = std::make_unique<ResidentStore>(runtime, registry, DType::kF32, 9000);
    store->initialise(1);
    shards = std::make_unique<ShardMap>(store->buckets(), zero > 0 ? comm.size() : 1, UpdateUnit::kRow);
    counted = ShardMap(store->buckets(), comm.size(), UpdateUnit::kRow).pieces(comm.rank());
    exchange = std::make_unique<DenseExchange>(comm, *shards);
  }

  // `poison`: index of a parameter that gets a value that is not finite in its last element, on one rank.
  void backward(int poison = -1, int rank = 0, float value = NAN) {
    store->begin_step(1, exchange.get());
    auto& packs = registry.packs();
    for (auto pack = packs.rbegin(); pack != packs.rend(); ++pack) {
      Tensor target = store->gradient(*pack).value;
      fill(runtime, target, 0);
      for (const Parameter* p : pack->members) {
        float* g = target.data<float>() + p->pack_offset;
        const int64_t n = p->local_shape.num_elements();
        for (int64_t i = 0; i < n; ++i) g[i] = gradient_element(*p, i) / static_cast<float>(comm.size());
        if (poison >= 0 && comm.rank() == rank && p == &registry.parameters()[static_cast<size_t>(poison)])
          g[n - 1] = value;
      }
      store->contributed(*pack);
    }
    store->finish_gradients(*stream);
  }
};

TEST(GradientNorm, CountsEveryElementOnce) {
  double norms[2];
  for (const int zero : {0, 1}) {
    Fixture f(zero);
    f.backward();
    double expected = 0;
    for (const Parameter& p : f.registry.parameters())
      for (int64_t i = 0; i < p.spec.shape.num_elements(); ++i)
        expected += std::pow(static_cast<double>(gradient_element(p, i)), 2);
    norms[zero] = gradient_norm(f.runtime, *f.store, f.counted, f.comm);
    EXPECT_NEAR(norms[zero], std::sqrt(expected), 1e-6 * std::sqrt(expected));
    // The same bits everywhere, run after run.
    EXPECT_EQ(max_doubles(f.comm, std::span(&norms[zero], 1), "norm")[0], norms[zero]);
    f.backward();
    EXPECT_EQ(gradient_norm(f.runtime, *f.store, f.counted, f.comm), norms[zero]);
  }
  EXPECT_NEAR(norms[0], norms[1], 1e-9 * norms[0]);
}

TEST(GradientNorm, OfNothingIsZero) {
  for (const int zero : {0, 1}) {
    Fixture f(zero);
    f.store->begin_step(1, f.exchange.get());
    f.store->finish_gradients(*f.stream);
    EXPECT_EQ(gradient_norm(f.runtime, *f.store, f.counted, f.comm), 0);
  }
}

TEST(GradientNorm, IsNotFiniteWhereverTheBadElementLies) {
  for (const int zero : {0, 1}) {
    Fixture f(zero);
    const int last = static_cast<int>(f.registry.parameters().size()) - 1;
    for (const int poison : {0, last / 2, last})
      for (const float value : {NAN, INFINITY}) {
        f.backward(poison, f.comm.size() - 1, value);
        EXPECT_FALSE(std::isfinite(gradient_norm(f.runtime, *f.store, f.counted, f.comm)));
      }
  }
}

TEST(LossScale, IsAgreedWhicheverRankOverflows) {
  for (const int zero : {0, 1}) {
    Fixture f(zero);
    LossScaleOptions options;
    options.growth_interval = 2;
    LossScale scale(options);
    for (int step = 0; step < 2 * f.comm.size() + 2; ++step) {
      const bool overflow = step % 2 == 0 && step < 2 * f.comm.size();
      f.backward(overflow ? 0 : -1, step / 2, INFINITY);
      EXPECT_EQ(scale.update(std::isfinite(gradient_norm(f.runtime, *f.store, f.counted, f.comm))), !overflow);
    }
    EXPECT_EQ(scale.scale(), std::ldexp(65536.0f, 1 - f.comm.size()));  // the last two steps were good
    EXPECT_EQ(scale.skipped(), f.comm.size());
  }
}

TEST(FirstParameterNotFinite, IsFoundOnAllRanksInTheOrderOfTheModel) {
  for (const int zero : {0, 1}) {
    Fixture f(zero);
    const auto& parameters = f.registry.parameters();
    f.backward();
    EXPECT_EQ(first_parameter_not_finite(f.runtime, *f.store, f.counted, f.comm), std::nullopt);
    for (int poison = 0; poison < static_cast<int>(parameters.size()); poison += 3) {
      f.backward(poison, poison % f.comm.size());
      EXPECT_EQ(first_parameter_not_finite(f.runtime, *f.store, f.counted, f.comm),
                parameters[static_cast<size_t>(poison)].spec.name);
    }
  }
}

}  // namespace
}  // namespace deepflow
