#include "kernels/ops/matmul.h"
#include "parallel/self_communicator.h"
#include "tests/parallel/mpi_test.h"
#include "tests/parallel/toy_training.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace deepflow {
namespace {

using namespace testing;

constexpr int kSteps = 5;

std::string describe(const ToyLayout& l) {
  return fmt::format("pp {} dr {} ds {} cp {} tp {} ep {} etp {} zero {} kv {} {} {}", l.pp, l.dr, l.ds, l.cp, l.tp,
                     l.ep, l.etp, l.zero, l.kv_units, l.optimizer, name_of(l.compute));
}

// Layouts of so many ranks that differ in what is summed and sharded where.
std::vector<ToyLayout> layouts(int ranks) {
  std::vector<ToyLayout> result;
  const auto add = [&](ToyLayout layout) {
    if (layout.ranks() != ranks) return;
    const bool is_simple = layout.optimizer == "sgd" || layout.optimizer == "adamw";
    for (layout.zero = is_simple ? 0 : 1; layout.zero <= 3; layout.zero += is_simple ? 1 : 2) result.push_back(layout);
  };
  add({});
  add({.ds = 2});
  add({.dr = 2});
  add({.cp = 2});
  add({.tp = 2});
  add({.pp = 2});
  add({.ds = 4});
  add({.ds = 4, .optimizer = "adamw"});
  add({.dr = 2, .ds = 2});
  add({.dr = 2, .cp = 2, .compute = DType::kBF16});
  add({.ds = 2, .cp = 2, .optimizer = "adamw"});
  add({.tp = 4, .kv_units = 2});
  add({.ds = 2, .tp = 2});
  add({.pp = 2, .ds = 2});
  add({.pp = 2, .dr = 2, .compute = DType::kBF16});
  add({.pp = 2, .tp = 2});
  add({.ds = 2, .ep = 2});
  add({.tp = 2, .ep = 2});
  add({.ds = 2, .etp = 2});
  add({.ds = 4, .ep = 2, .optimizer = "adamw"});
  add({.ds = 2, .tp = 2, .ep = 4, .compute = DType::kBF16});
  add({.ds = 2, .cp = 2, .ep = 2, .etp = 2});
  add({.dr = 2, .ds = 2, .ep = 2});
  add({.dr = 2, .tp = 2, .etp = 2});
  add({.pp = 2, .ds = 2, .ep = 2, .optimizer = "adamw"});
  for (const char* optimizer : {"muon", "adafactor", "lion", "adamw8bit"}) {
    add({.optimizer = optimizer});
    add({.ds = 2, .optimizer = optimizer});
    add({.tp = 2, .optimizer = optimizer});
    add({.dr = 2, .ds = 2, .optimizer = optimizer});
    add({.ds = 2, .tp = 2, .optimizer = optimizer});
    add({.pp = 2, .tp = 2, .optimizer = optimizer});
    add({.ds = 2, .ep = 2, .optimizer = optimizer});
    add({.ds = 2, .tp = 2, .ep = 4, .optimizer = optimizer});
    if (std::string(optimizer) == "adamw8bit") continue;  // whose blocks of columns would lie on two ranks
    add({.tp = 4, .optimizer = optimizer, .kv_units = 2});
    add({.ds = 2, .tp = 2, .ep = 2, .etp = 2, .optimizer = optimizer});
  }
  return result;
}

struct Training {
  std::map<std::string, std::vector<float>> masters;
  std::vector<double> norms;
  friend bool operator==(const Training&, const Training&) = default;
};

Training train(ToyTraining& toy) {
  Training run;
  for (int s = 1; s <= kSteps; ++s) run.norms.push_back(toy.step(s));
  run.masters = toy.masters();
  return run;
}

// The same optimizer and samples in one process.
const Training& alone(const std::string& optimizer, int kv_units) {
  static std::map<std::string, Training> known;
  Training& run = known[fmt::format("{} {}", optimizer, kv_units)];
  if (run.norms.empty()) {
    const auto self = make_self_communicator("alone");
    ToyLayout layout;
    layout.optimizer = optimizer;
    layout.kv_units = kv_units;
    ToyTraining toy(*self, layout);
    run = train(toy);
  }
  return run;
}

// A moment that sums in another order put on the other side of a middle is rounded to the code beside: some hundredths
// of a step of 1e-3.
double tolerance_of(const std::string& optimizer) { return optimizer == "adamw8bit" ? 1e-4 : 1e-6; }

void expect_slices_of(const Training& whole, const Training& got, const ParameterRegistry& registry, double tolerance) {
  for (const Parameter& p : registry.parameters()) {
    if (!p.pack->local) continue;
    const std::vector<float>&expected = whole.masters.at(p.spec.name), &values = got.masters.at(p.spec.name);
    const Box& box = p.boxes.front();
    const int64_t cols = p.local_shape.cols(), all_cols = p.spec.shape.cols();
    ASSERT_EQ(static_cast<int64_t>(values.size()), p.local_shape.num_elements());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      const float e = expected[static_cast<size_t>(logical_row(p, at) * all_cols + box.lo.back() + at % cols)];
      ASSERT_NEAR(values[i], e, tolerance * (1 + std::abs(e))) << p.spec.name << " at " << i;
    }
  }
}

TEST(Zero, TrainsAsOneProcessDoes) {
  for (const ToyLayout& layout : layouts(test_world().size())) {
    SCOPED_TRACE(describe(layout));
    ToyTraining toy(test_world().all(), layout);
    const Training got = train(toy);
    const Training& expected = alone(layout.optimizer, layout.kv_units);
    expect_slices_of(expected, got, toy.registry, tolerance_of(layout.optimizer));
    for (size_t s = 0; s < kSteps; ++s) {
      EXPECT_NEAR(got.norms[s], expected.norms[s], 1e-6 * expected.norms[s]) << "step " << s;
      EXPECT_EQ(max_doubles(test_world().all(), std::span(&got.norms[s], 1), "norm")[0], got.norms[s]);
    }
  }
}

TEST(Zero, GivesTheSameBitsAgain) {
  for (const ToyLayout& layout : layouts(test_world().size())) {
    ToyTraining first(test_world().all(), layout), second(test_world().all(), layout);
    EXPECT_EQ(train(first), train(second)) << describe(layout);
  }
}

TEST(Zero, KeepsReplicasBitIdentical) {
  for (const ToyLayout& layout : layouts(test_world().size())) {
    ToyTraining toy(test_world().all(), layout);
    const Training run = train(toy);
    for (const Parameter& p : toy.registry.parameters()) {
      std::string mine;  // box and bytes of this rank's values
      if (p.pack->local) {
        mine.assign(reinterpret_cast<const char*>(p.boxes[0].lo.data()), p.boxes[0].lo.size() * sizeof(int64_t));
        const std::vector<float>& v = run.masters.at(p.spec.name);
        mine.append(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(float));
      }
      std::map<std::string, std::string> by_box;
      const size_t key = p.boxes[0].lo.size() * sizeof(int64_t);
      for (const std::string& text : gather_texts(test_world().all(), mine, "replicas")) {
        if (text.empty()) continue;
        const auto [at, is_new] = by_box.try_emplace(text.substr(0, key), text);
        EXPECT_EQ(at->second == text, true) << p.spec.name << " " << describe(layout);
      }
    }
  }
}

// All forms of a store that gathers are those of one that has everything.
TEST(Zero, FormsOfGatheredMastersAreThoseOfWholeOnes) {
  const int n = test_world().size();
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    ToyTraining whole(test_world().all(), {.ds = n, .zero = 0, .compute = compute});
    ToyTraining cut(test_world().all(), {.ds = n, .zero = 3, .compute = compute});
    for (int round = 0; round < 2; ++round) {
      for (Pack& pack : whole.registry.packs()) {
        Pack& other = cut.registry.packs()[static_cast<size_t>(pack.id)];
        for (const Form form : {Form::kRowMajor, Form::kMaster, Form::kForward, Form::kInputGrad}) {
          if (form != Form::kMaster && pack.role() != Role::kMatrix && pack.role() != Role::kExpert) continue;
          if (round == 0 && form == Form::kMaster) continue;  // from then on some buckets are gathered in f32
          const Tensor a = whole.store->acquire(pack, form, *whole.stream);
          const Tensor b = cut.store->acquire(other, form, *cut.stream);
          ASSERT_EQ(a.num_bytes(), b.num_bytes());
          EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.num_bytes()), 0) << pack.name;
        }
      }
      whole.step(1);
      cut.step(1);
      const auto values = whole.masters();
      for (const Parameter& p : cut.registry.parameters())
        cut.store->load(p, Tensor::wrap(const_cast<float*>(values.at(p.spec.name).data()), p.local_shape, DType::kF32));
    }
  }
}

TEST(Zero, LoadsAndReportsEveryElementOnce) {
  const int n = test_world().size();
  for (int zero = 0; zero <= 3; ++zero) {
    ToyTraining toy(test_world().all(), {.ds = n, .zero = zero});
    toy.step(1);
    for (const Parameter& p : toy.registry.parameters()) {
      std::vector<float> values(static_cast<size_t>(p.local_shape.num_elements()));
      for (size_t i = 0; i < values.size(); ++i) values[i] = random_normal(random_site(9, p.spec.name), 0, int64_t(i));
      toy.store->load(p, Tensor::wrap(values.data(), p.local_shape, DType::kF32));
    }
    for (const auto& [name, values] : toy.masters())
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(values[i], random_normal(random_site(9, name), 0, int64_t(i))) << name << " zero " << zero;
    std::map<std::string, int64_t> elements;
    toy.store->visit_state([&](StateEntry& e) {
      EXPECT_EQ(e.value.num_elements(), e.boxes.front().num_elements());
      elements[e.name] += e.value.num_elements();
    });
    for (const Parameter& p : toy.registry.parameters()) {
      const double mine = static_cast<double>(elements["parameters/" + p.spec.name]);
      const double all = sum_doubles(test_world().all(), std::span(&mine, 1), "elements")[0];
      EXPECT_EQ(all, static_cast<double>(p.spec.shape.num_elements() * (zero < 3 ? n : 1))) << p.spec.name;
    }
  }
}

TEST(Zero, StepsMayDifferInNumberOfPassesAndBeInterrupted) {
  const int n = test_world().size();
  ToyTraining toy(test_world().all(), {.ds = n, .zero = 3});
  toy.step(1);
  const auto before = toy.masters();  // reads in an order of its own, between steps
  toy.store->begin_step(1, toy.exchange.get());
  for (Pack& pack : toy.registry.packs()) toy.store->acquire(pack, Form::kMaster, *toy.stream);
  toy.store->finish_gradients(*toy.stream);  // nothing contributed
  for (const Parameter& p : toy.registry.parameters()) EXPECT_EQ(p.pack->local, true);
  EXPECT_EQ(toy.masters(), before);
  ToyTraining plain(test_world().all(), {.ds = n, .zero = 3});
  plain.step(1);
  for (int s = 2; s <= 4; ++s) EXPECT_EQ(toy.step(s), plain.step(s));
  EXPECT_EQ(toy.masters(), plain.masters());
}

}  // namespace
}  // namespace deepflow
