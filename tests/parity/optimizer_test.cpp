// Optimizers against PyTorch's and others in f64: tests/parity/make_optimizer_goldens.py.

#include "optim/optimizer.h"

#include "checkpoint/safetensors.h"
#include "core/random.h"
#include "kernels/ops/elementwise.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

namespace deepflow {
namespace {

constexpr int kSteps = 6;

class Golden {
 public:
  Golden() : file_(std::string(DEEPFLOW_PARITY_GOLDENS) + "/optimizers.safetensors") {}
  std::vector<float> operator()(const std::string& name) const {
    const SafetensorsEntry* entry = file_.find(name);
    EXPECT_NE(entry, nullptr) << name;
    if (!entry) return {};
    std::vector<float> values(static_cast<size_t>(entry->end - entry->begin) / sizeof(float));
    file_.read(*entry, 0, values.data(), values.size() * sizeof(float));
    return values;
  }

 private:
  SafetensorsFile file_;
};

class OptimizerGolden : public ::testing::Test {
 protected:
  OptimizerGolden() {
    add("wide", {24, 40}, Role::kMatrix);
    add("tall", {40, 24}, Role::kMatrix);
    add("experts", {3, 20, 36}, Role::kExpert);
    add("embedding", {50, 24}, Role::kEmbedding);
    add("norm", {24}, Role::kNorm);
    registry_.freeze({});
  }
  void add(const std::string& name, const Shape& shape, Role role) {
    ParameterSpec spec;
    spec.name = name;
    spec.shape = shape;
    spec.role = role;
    registry_.add(std::move(spec));
  }

  // Norm of the difference of the parameter's move from its start over the norm of the expected one.
  void expect_golden(
      const std::string& golden, const OptimOptions& options, double tolerance,
      const std::function<bool(const Parameter&)>& compares = [](const Parameter&) { return true; }) {
    ResidentStore store(runtime_, registry_, DType::kF32);
    for (const Parameter& p : registry_.parameters()) {
      std::vector<float> start = golden_("start/" + p.spec.name);
      store.load(p, Tensor::wrap(start.data(), p.local_shape, DType::kF32));
    }
    const auto optimizer = find_optimizer(options.name).make(options, {runtime_, store, store.pieces(), {}});
    for (int step = 1; step <= kSteps; ++step) {
      store.begin_step(1, nullptr);
      for (Pack& pack : registry_.packs()) {
        Tensor target = store.gradient(pack).value;
        fill(runtime_, target, 0);
        const std::vector<float> g = golden_(fmt::format("gradient/{}/{}", step, pack.name));
        std::copy(g.begin(), g.end(), target.data<float>());
        store.contributed(pack);
      }
      optimizer->update({step, 0.01 / std::sqrt(step), 1});
    }
    for (const Parameter& p : registry_.parameters()) {
      if (!compares(p)) continue;
      const std::vector<float> start = golden_("start/" + p.spec.name), end = golden_(golden + "/" + p.spec.name);
      const float* got = store.master(p).data<float>();
      double difference = 0, moved = 0;
      for (size_t i = 0; i < end.size(); ++i) {
        difference += std::pow(static_cast<double>(got[i]) - static_cast<double>(end[i]), 2);
        moved += std::pow(static_cast<double>(end[i]) - static_cast<double>(start[i]), 2);
      }
      EXPECT_GT(moved, 0);
      EXPECT_LT(std::sqrt(difference / moved), tolerance) << golden << " " << p.spec.name;
    }
  }

  Golden golden_;
  Runtime runtime_{{.threads = 1}};
  ParameterRegistry registry_;
};

OptimOptions named(const char* name) {
  OptimOptions o;
  o.name = name;
  o.weight_decay = 0.1;
  return o;
}

TEST_F(OptimizerGolden, LionIsItsPaper) {
  OptimOptions o = named("lion");
  o.beta2 = 0.99;
  expect_golden("lion", o, 1e-5);
}

TEST_F(OptimizerGolden, AdafactorIsTorchs) {
  OptimOptions o = named("adafactor");
  o.adafactor.relative_step = true;
  expect_golden("adafactor", o, 1e-5);
}

TEST_F(OptimizerGolden, MuonIsTheIterationInDouble) {
  OptimOptions o = named("muon");
  expect_golden("muon", o, 1e-4);
  o.muon.scale = "jordan";
  o.muon.nesterov = false;
  expect_golden("muon_jordan", o, 1e-4,
                [](const Parameter& p) { return p.spec.role == Role::kMatrix || p.spec.role == Role::kExpert; });
}

// torch.optim.Muon iterates in bf16 whatever it is given.
TEST_F(OptimizerGolden, MuonIsNearTorchs) {
  OptimOptions o = named("muon");
  expect_golden("torch_muon", o, 0.05);
  o.muon.precision = "bf16";
  expect_golden("torch_muon", o, 0.05);
}

// Codes near a middle may round either way, and move by one.
TEST_F(OptimizerGolden, AdamwWith8BitMomentsIsItsDefinition) {
  OptimOptions o = named("adamw8bit");
  o.block = 16;
  expect_golden("adamw8bit", o, 1e-3);
}

}  // namespace
}  // namespace deepflow
