#include "optim/optimizer.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/pack_forms.h"
#include "tests/parallel/some_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>

namespace deepflow {
namespace {

using namespace testing;

constexpr int kSteps = 4;

float gradient_element(int step, const Parameter& p, int64_t i) {
  return random_normal(random_site(static_cast<uint64_t>(step), p.spec.name), 1, i);
}
double learning_rate_of(int step) { return 0.01 / step; }
float gradient_scale_of(int step) { return step == 2 ? 0.25f : 1.0f; }

using Values = std::map<std::string, std::vector<double>>;  // by parameter

// Masters after some steps, updated piece by piece as that many ranks would.
struct Steps {
  Runtime runtime{{.threads = 1}};
  ParameterRegistry registry;
  std::unique_ptr<ResidentStore> store;
  std::vector<std::unique_ptr<Optimizer>> of_rank;

  Steps(const OptimOptions& options, int ranks, const std::string& offload_dir = {}) {
    add_random_parameters(registry, 11, 10);
    registry.freeze({});
    store = std::make_unique<ResidentStore>(runtime, registry, DType::kF32, 10'000);
    store->initialise(1);
    const OptimizerEntry& entry = find_optimizer(options.name);
    const ShardMap shards(store->buckets(), ranks, entry.unit);
    for (int r = 0; r < ranks; ++r)
      of_rank.push_back(entry.make(options, {runtime, *store, shards.pieces(r), offload_dir}));
  }

  void step(int step) {
    store->begin_step(1, nullptr);
    for (Pack& pack : registry.packs()) {
      Tensor target = store->gradient(pack).value;
      fill(runtime, target, 0);
      for (const Parameter* p : pack.members)
        for (int64_t i = 0; i < p->local_shape.num_elements(); ++i)
          target.data<float>()[p->pack_offset + i] = gradient_element(step, *p, i);
      store->contributed(pack);
    }
    for (auto& optimizer : of_rank) optimizer->update({step, learning_rate_of(step), gradient_scale_of(step)});
  }
  Values masters() {
    Values values;
    for (const Parameter& p : registry.parameters()) {
      const Tensor t = store->master(p);
      values[p.spec.name] = {t.data<float>(), t.data<float>() + t.num_elements()};
    }
    return values;
  }
};

Values run(const OptimOptions& options, int ranks) {
  Steps r(options, ranks);
  for (int s = 1; s <= kSteps; ++s) r.step(s);
  return r.masters();
}

// Updates one element over the steps, in f64. update(step, lr, gradient, decay, p).
using Update = std::function<void(int, double, double, double, double&)>;
void expect_follows(const OptimOptions& options, const std::function<Update()>& reference) {
  const Values start = Steps(options, 1).masters(), got = run(options, 1);
  const Steps shapes(options, 1);
  for (const Parameter& p : shapes.registry.parameters()) {
    const double decay = p.spec.shape.num_dims() < 2 ? 0 : options.weight_decay;
    for (size_t i = 0; i < got.at(p.spec.name).size(); ++i) {
      double expected = start.at(p.spec.name)[i];
      const Update update = reference();
      for (int s = 1; s <= kSteps; ++s) {
        const double g = static_cast<double>(gradient_element(s, p, static_cast<int64_t>(i))) *
                         static_cast<double>(gradient_scale_of(s));
        update(s, learning_rate_of(s), g, decay, expected);
      }
      ASSERT_NEAR(got.at(p.spec.name)[i], expected, 2e-6 * (1 + std::abs(expected))) << p.spec.name << " " << i;
    }
  }
}

TEST(Optimizers, AdamwFollowsTheDoubleReference) {
  OptimOptions o;
  o.beta1 = 0.9;
  o.beta2 = 0.999;
  o.weight_decay = 0.1;
  expect_follows(o, [&o]() -> Update {
    return [&o, m = 0.0, v = 0.0](int step, double lr, double g, double decay, double& p) mutable {
      m = o.beta1 * m + (1 - o.beta1) * g;
      v = o.beta2 * v + (1 - o.beta2) * g * g;
      const double m_hat = m / (1 - std::pow(o.beta1, step)), v_hat = v / (1 - std::pow(o.beta2, step));
      p -= lr * decay * p;
      p -= lr * m_hat / (std::sqrt(v_hat) + o.eps);
    };
  });
}

TEST(Optimizers, SgdFollowsTheDoubleReference) {
  for (const double momentum : {0.0, 0.9})
    for (const bool nesterov : {false, true}) {
      OptimOptions o;
      o.name = "sgd";
      o.momentum = momentum;
      o.nesterov = nesterov;
      o.weight_decay = 0.05;
      expect_follows(o, [&o]() -> Update {
        return [&o, b = 0.0](int step, double lr, double g, double decay, double& p) mutable {
          g += decay * p;
          b = step == 1 ? g : o.momentum * b + g;
          p -= lr * (o.nesterov ? g + o.momentum * b : b);
        };
      });
    }
}

TEST(Optimizers, LionFollowsTheDoubleReference) {
  OptimOptions o;
  o.name = "lion";
  o.beta1 = 0.95;
  o.beta2 = 0.98;
  o.weight_decay = 0.3;
  expect_follows(o, [&o]() -> Update {
    return [&o, m = 0.0](int, double lr, double g, double decay, double& p) mutable {
      const double mixed = o.beta1 * m + (1 - o.beta1) * g;
      p -= lr * decay * p + lr * (mixed > 0 ? 1 : -1);
      m = o.beta2 * m + (1 - o.beta2) * g;
    };
  });
}

// Adafactor's sums are over ranks, which tests/parallel/zero_mpi_test.cpp has.
TEST(Optimizers, GiveTheSameMastersForAnyNumberOfShards) {
  for (const std::string& name : optimizer_names()) {
    if (name == "adafactor") continue;
    OptimOptions options;
    options.name = name;
    const Values alone = run(options, 1);
    EXPECT_EQ(run(options, 2), alone) << name;
    EXPECT_EQ(run(options, 3), alone) << name;
  }
}

// Resident KiB of the mapping that holds `address`.
int64_t resident_kib(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<unsigned long>(address);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin, end;
    long kib;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) inside = begin <= wanted && wanted < end;
    if (inside && std::sscanf(line.c_str(), "Rss: %ld", &kib) == 1) return kib;
  }
  return -1;
}

TEST(Optimizers, UpdateTheSameBitsWithStateInAFileAndLeaveItThere) {
  for (const std::string& name : optimizer_names()) {
    OptimOptions options;
    options.name = name;
    const Values in_memory = run(options, 2);
    Steps r(options, 2, ::testing::TempDir());
    const int64_t without_state = r.runtime.memory().stats().in_use;
    int64_t masters = 0;
    for (const Bucket& bucket : r.store->buckets()) masters += static_cast<int64_t>(bucket.master.num_bytes());
    EXPECT_LE(without_state, masters + 4096);
    for (int s = 1; s <= kSteps; ++s) r.step(s);
    EXPECT_EQ(r.masters(), in_memory) << name;
    for (auto& optimizer : r.of_rank) {
      const void* first = nullptr;
      optimizer->visit_state([&](StateEntry& e) {
        if (!first) {
          first = e.value.raw();
          EXPECT_EQ(resident_kib(first), 0);
        }
        const char* bytes = static_cast<const char*>(e.value.raw());
        EXPECT_TRUE(std::any_of(bytes, bytes + e.value.num_bytes(), [](char b) { return b != 0; })) << e.name;
      });
      ASSERT_NE(first, nullptr);
    }
  }
}

// Packs with and without panels: aligned members, members cut inside a block of rows, padded rows, odd columns.
void add_packs_of_every_alignment(ParameterRegistry& registry) {
  registry.add("qkv", {parameter("q", {128, 64}), parameter("k", {64, 64}), parameter("v", {64, 64})});
  registry.add("odd", {parameter("odd.a", {32, 128}), parameter("odd.b", {32, 128})});
  registry.add("embedding", {parameter("embedding", {150, 192}, Role::kEmbedding)});
  registry.add("wide", {parameter("wide", {64, 2112})});
  registry.add("narrow", {parameter("narrow", {64, 72})});
  registry.add("bias", {parameter("bias", {64}, Role::kBias)});
  const auto experts = [](const std::string& name, const Shape& shape) {
    return parameter(name, shape, Role::kExpert);
  };
  registry.add("experts", {experts("gate", {3, 128, 64}), experts("up", {3, 128, 64})});
  registry.add("down", {experts("down", {3, 64, 128})});
  registry.add("odd experts", {experts("odd.gate", {2, 32, 128}), experts("odd.up", {2, 32, 128})});
}

TEST(Optimizers, LeaveEveryFormAsThoughItWereMadeFromTheNewMaster) {
  const std::unique_ptr<Stream> cpu = make_cpu_stream();
  Stream& stream = *cpu;
  for (const std::string& name : optimizer_names())
    for (const int ranks : {1, 2}) {
      Runtime runtime({.threads = 2});
      ParameterRegistry registry;
      add_packs_of_every_alignment(registry);
      registry.freeze({});
      ResidentStore store(runtime, registry, DType::kBF16, 20'000);
      store.initialise(1);
      OptimOptions options;
      options.name = name;
      const OptimizerEntry& entry = find_optimizer(name);
      const ShardMap shards(store.buckets(), ranks, entry.unit);
      std::vector<std::unique_ptr<Optimizer>> of_rank;
      for (int r = 0; r < ranks; ++r) of_rank.push_back(entry.make(options, {runtime, store, shards.pieces(r), {}}));
      const auto forms_of = [&](Pack& pack) {
        std::vector<Form> forms = {Form::kForward, Form::kInputGrad, Form::kRowMajor};
        if (pack.role() == Role::kBias) forms.clear();
        if (pack.name == "wide") forms = {Form::kForward};  // one form alone
        return forms;
      };
      for (int step = 1; step <= 2; ++step) {
        for (Pack& pack : registry.packs())
          for (const Form form : forms_of(pack)) store.acquire(pack, form, stream);
        store.begin_step(1, nullptr);
        for (Pack& pack : registry.packs()) {
          Tensor target = store.gradient(pack).value;
          fill(runtime, target, 0.25f * static_cast<float>(step));
          store.contributed(pack);
        }
        for (auto& optimizer : of_rank) optimizer->update({step, 0.1, 1});
        for (Pack& pack : registry.packs())
          for (const Form form : forms_of(pack)) {
            const Tensor got = store.acquire(pack, form, stream), master = store.master(pack);
            Tensor expected = Tensor::empty(runtime.memory(), got.shape(), got.dtype());
            derive_form(runtime, pack, master, DType::kBF16, form, expected);
            EXPECT_EQ(std::memcmp(got.raw(), expected.raw(), got.num_bytes()), 0) << pack.name << " " << ranks;
          }
      }
    }
}

TEST(Optimizers, LeavePaddingZero) {
  OptimOptions options;
  Steps r(options, 3);
  for (int s = 1; s <= kSteps; ++s) r.step(s);
  for (const Pack& pack : r.registry.packs()) {
    const Tensor master = r.store->master(pack);
    for (int64_t i = pack.rows * pack.cols; i < pack.num_elements(); ++i) ASSERT_EQ(master.data<float>()[i], 0);
  }
}

bool is_embedding(const Parameter& p) { return p.spec.role == Role::kEmbedding; }
bool is_vector(const Parameter& p) { return p.spec.shape.num_dims() < 2; }

// Elements that each entry has over all ranks.
std::map<std::string, int64_t> expected_state(const std::string& name, const ParameterRegistry& registry) {
  std::map<std::string, int64_t> expected;
  for (const Parameter& p : registry.parameters()) {
    const int64_t elements = p.spec.shape.num_elements(), cols = p.spec.shape.cols(), rows = elements / cols;
    const int64_t matrices = p.spec.shape.num_dims() > 2 ? p.spec.shape[0] : 1;
    const auto add = [&](const std::string& state, int64_t n) { expected[name + "." + state + "/" + p.spec.name] = n; };
    if (name == "lion") add("m", elements);
    if (name == "sgd") add("momentum", elements);
    if (name == "adamw" || (name == "adamw8bit" && (is_vector(p) || is_embedding(p)))) {
      add("m", elements);
      add("v", elements);
    } else if (name == "adamw8bit") {
      for (const char* state : {"m_codes", "root_codes"}) add(state, elements);
      for (const char* state : {"m_scales", "root_scales"}) add(state, rows * ((cols + 63) / 64));
    } else if (name == "muon" && (is_vector(p) || is_embedding(p))) {
      add("adamw_m", elements);
      add("adamw_v", elements);
    } else if (name == "muon") {
      add("momentum", elements);
    } else if (name == "adafactor" && is_vector(p)) {
      add("v", elements);
    } else if (name == "adafactor") {
      add("row", rows);
      add("col", matrices * cols);
    }
  }
  return expected;
}

TEST(Optimizers, ReportStateOfEveryElementOnce) {
  for (const std::string& name : optimizer_names()) {
    OptimOptions options;
    options.name = name;
    // Whoever has rows of a matrix has Adafactor's means of all rows.
    Steps r(options, name == "adafactor" ? 1 : 3);
    std::map<std::string, int64_t> elements;
    int64_t bytes = 0, expected_bytes = 0;
    for (auto& optimizer : r.of_rank)
      optimizer->visit_state([&](StateEntry& e) {
        ASSERT_EQ(e.boxes.size(), 1u);
        EXPECT_EQ(e.boxes[0].num_elements(), e.value.num_elements());
        for (size_t d = 0; d < e.boxes[0].hi.size(); ++d) EXPECT_LE(e.boxes[0].hi[d], e.shape[static_cast<int>(d)]);
        EXPECT_EQ(e.rule, Reshard::kSlice);
        elements[e.name] += e.value.num_elements();
        bytes += static_cast<int64_t>(e.value.num_bytes());
      });
    EXPECT_EQ(elements, expected_state(name, r.registry)) << name;
    for (const ShardPiece& piece : r.store->pieces())
      expected_bytes += find_optimizer(name).state_bytes(options, piece);
    EXPECT_EQ(bytes, expected_bytes) << name;
  }
}

TEST(Optimizers, DecayMatricesOnly) {
  for (const Role role : {Role::kMatrix, Role::kExpert, Role::kEmbedding, Role::kHead, Role::kRouter})
    EXPECT_TRUE(decays(role)) << name_of(role);
  for (const Role role : {Role::kNorm, Role::kBias, Role::kBuffer}) EXPECT_FALSE(decays(role)) << name_of(role);

  for (const std::string& name : optimizer_names()) {
    OptimOptions options;
    options.name = name;
    options.weight_decay = 0.5;
    Steps r(options, 1);
    const Values before = r.masters();
    r.store->begin_step(1, nullptr);
    r.store->finish_gradients(*make_cpu_stream());  // zero gradients: only the decay moves anything
    r.of_rank[0]->update({1, 0.1, 1});
    const Values after = r.masters();
    for (const Parameter& p : r.registry.parameters())
      for (size_t i = 0; i < after.at(p.spec.name).size(); ++i) {
        const double kept = decays(p.spec.role) ? 1 - 0.1 * 0.5 : 1;
        ASSERT_NEAR(after.at(p.spec.name)[i], kept * before.at(p.spec.name)[i], 1e-6) << name << " " << p.spec.name;
      }
  }
}

TEST(Optimizers, AreRefusedByName) { EXPECT_THROW(find_optimizer("adam"), ConfigError); }

}  // namespace
}  // namespace deepflow
