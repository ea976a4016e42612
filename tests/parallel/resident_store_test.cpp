#include "parallel/resident_store.h"

#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/pack_forms.h"
#include "parallel/exchange/dense.h"
#include "parallel/self_communicator.h"
#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>

namespace deepflow {
namespace {

using namespace testing;

// Remembers which buckets it got; a reduction doubles the gradient when it is waited for.
class RecordingExchange final : public Exchange {
 public:
  bool is_local() const override { return false; }
  struct Doubling final : Work {
    Runtime& runtime;
    Tensor grad;
    bool waited = false;
    Doubling(Runtime& r, Tensor g) : runtime(r), grad(std::move(g)) {}
    void wait(Stream&) override { wait_host(); }
    void wait_host() override {
      EXPECT_FALSE(waited);
      waited = true;
      scale(runtime, grad, 2);
    }
  };

  explicit RecordingExchange(Runtime& runtime) : runtime_(runtime) {}
  WorkPtr reduce_replicas(Bucket&, const Tensor&) override { return nullptr; }
  WorkPtr reduce(Bucket& bucket, const Tensor&) override {
    reduced.push_back(bucket.id);
    works.push_back(std::make_shared<Doubling>(runtime_, bucket.grad));
    return works.back();
  }
  void finish(bool) override {}
  WorkPtr share(Bucket& bucket) override {
    shared.push_back(bucket.id);
    works.push_back(std::make_shared<Doubling>(runtime_, bucket.master));
    return works.back();
  }
  void visit_state(const StateVisitor&) override {}

  int waited() const {
    return static_cast<int>(std::count_if(works.begin(), works.end(), [](const auto& w) { return w->waited; }));
  }

  std::vector<int> reduced, shared;
  std::vector<std::shared_ptr<Doubling>> works;

 private:
  Runtime& runtime_;
};

// Four packs, the last one in a bucket of its own, then a second and a third bucket.
struct Fixture {
  Runtime runtime{{.threads = 1}};
  std::unique_ptr<Stream> stream = make_cpu_stream();
  ParameterRegistry registry;
  Pack *embedding, *qk, *norm, *head;
  std::unique_ptr<ResidentStore> store;

  explicit Fixture(DType compute = DType::kF32) {
    embedding = registry.add(parameter("embedding", {70, 32}, Role::kEmbedding));
    qk = registry.add("qk", {parameter("q", {32, 32}), parameter("k", {16, 32})});
    norm = registry.add(parameter("norm", {32}, Role::kNorm));
    head = registry.add(parameter("head", {40, 32}, Role::kHead));
    registry.freeze({});
    store = std::make_unique<ResidentStore>(runtime, registry, compute, 2048);
    store->initialise(1);
  }
  void contribute(Pack& pack, float value) {
    GradientTarget target = store->gradient(pack);
    Tensor x = Tensor::empty(runtime.memory(), target.value.shape(), DType::kF32);
    fill(runtime, x, value);
    if (target.accumulate)
      add_into(runtime, target.value, x);
    else
      copy(runtime, x, target.value);
    store->contributed(pack);
  }
  std::vector<float> gradient(const std::string& name) {
    const Tensor g = store->gradient_of(*registry.find(name));
    return {g.data<float>(), g.data<float>() + g.num_elements()};
  }
  std::vector<float> all(float value, const std::string& name) {
    return std::vector<float>(static_cast<size_t>(registry.find(name)->spec.shape.num_elements()), value);
  }
};

TEST(ResidentStore, InitialValuesDependOnSeedAndNameOnly) {
  Fixture a, b;
  b.store->initialise(2);
  const float* x = a.store->master(*a.registry.find("k")).data<float>();
  const float* y = b.store->master(*b.registry.find("k")).data<float>();
  EXPECT_NE(x[5], y[5]);
  b.store->initialise(1);
  EXPECT_EQ(std::memcmp(x, y, 16 * 32 * sizeof(float)), 0);

  ParameterRegistry alone;  // the same parameter in another place of another model
  alone.add(parameter("k", {16, 32}));
  alone.freeze({});
  ResidentStore other(a.runtime, alone, DType::kF32);
  other.initialise(1);
  EXPECT_EQ(std::memcmp(x, other.master(*alone.find("k")).data<float>(), 16 * 32 * sizeof(float)), 0);
}

TEST(ResidentStore, InitialValuesOfASliceAreThoseOfTheWhole) {
  Fixture whole;
  ParameterRegistry registry;
  ParameterSpec rows = parameter("q", {32, 32}), columns = parameter("k", {16, 32});
  rows.placement = {{0, {"tp"}, 8}};
  columns.placement = {{1, {"tp"}, 8}};
  registry.add(rows);
  registry.add(columns);
  registry.freeze({{"tp", 1, 2}});
  ResidentStore slice(whole.runtime, registry, DType::kF32);
  slice.initialise(1);
  const float* q = whole.store->master(*whole.registry.find("q")).data<float>();
  const float* k = whole.store->master(*whole.registry.find("k")).data<float>();
  for (int64_t r = 0; r < 16; ++r) {
    for (int64_t c = 0; c < 32; ++c)
      EXPECT_EQ(slice.master(*registry.find("q")).data<float>()[r * 32 + c], q[(16 + r) * 32 + c]);
    for (int64_t c = 0; c < 16; ++c)
      EXPECT_EQ(slice.master(*registry.find("k")).data<float>()[r * 16 + c], k[r * 32 + 16 + c]);
  }
}

TEST(ResidentStore, ExpertsAreInitialisedAsAllOfThemOneBelowTheOther) {
  Runtime runtime({.threads = 2});
  ParameterSpec spec = parameter("experts", {6, 8, 12}, Role::kExpert);
  ParameterRegistry all, slice;
  all.add(spec);
  all.freeze({});
  spec.placement = {{0, {"ep"}, 6}, {2, {"etp"}, 12}};
  slice.add(spec);
  slice.freeze({{"ep", 1, 3}, {"etp", 1, 2}});  // experts 2 and 3, columns 6 to 11
  ResidentStore whole(runtime, all, DType::kF32), part(runtime, slice, DType::kF32);
  whole.initialise(1);
  part.initialise(1);
  const float* w = whole.master(*all.find("experts")).data<float>();
  const float* p = part.master(*slice.find("experts")).data<float>();
  for (int64_t e = 0; e < 6; ++e)
    for (int64_t o = 0; o < 8; ++o)
      for (int64_t c = 0; c < 12; ++c) {
        const float value = w[(e * 8 + o) * 12 + c];
        EXPECT_EQ(value, 0.5f * random_normal(random_site(1, "experts"), e * 8 + o, c));
        if (e / 2 == 1 && c >= 6) {
          EXPECT_EQ(p[((e - 2) * 8 + o) * 6 + c - 6], value);
        }
      }
}

TEST(ResidentStore, FormsOfExpertsFollowWritesAndAreCounted) {
  Runtime runtime({.threads = 2});
  const std::unique_ptr<Stream> stream = make_cpu_stream();
  ParameterRegistry registry;
  Pack* experts = registry.add(
      "gate_up", {parameter("gate", {3, 64, 64}, Role::kExpert), parameter("up", {3, 64, 64}, Role::kExpert)});
  registry.freeze({});
  ResidentStore store(runtime, registry, DType::kBF16);
  store.initialise(1);
  for (int round = 0; round < 2; ++round) {
    int64_t bytes = 0;
    for (const Form form : {Form::kForward, Form::kInputGrad}) {
      Tensor expected = empty_form(runtime, *experts, DType::kBF16, form);
      derive_form(runtime, *experts, store.master(*experts), DType::kBF16, form, expected);
      const Tensor got = store.acquire(*experts, form, *stream);
      ASSERT_EQ(got.num_bytes(), expected.num_bytes());
      EXPECT_EQ(std::memcmp(got.raw(), expected.raw(), got.num_bytes()), 0);
      bytes += static_cast<int64_t>(got.num_bytes());
    }
    EXPECT_EQ(store.form_bytes(), bytes);
    store.master(*experts).data<float>()[7] = 3;
    store.written(*experts);
  }
}

TEST(ResidentStore, KeepsTheMembersOfAPackOneBelowTheOther) {
  Fixture f;
  const Tensor pack = f.store->master(*f.qk);
  EXPECT_EQ(pack.shape(), (Shape{48, 32}));
  EXPECT_EQ(f.store->master(*f.registry.find("q")).raw(), pack.raw());
  EXPECT_EQ(f.store->master(*f.registry.find("k")).raw(), pack.row_range(32, 48).raw());
}

TEST(ResidentStore, PaddingOfAnEmbeddingIsZero) {
  Fixture f;
  const Tensor master = f.store->master(*f.embedding);
  ASSERT_EQ(master.rows(), 128);
  for (int64_t i = 70 * 32; i < 128 * 32; ++i) ASSERT_EQ(master.data<float>()[i], 0);
}

TEST(ResidentStore, MakesDerivedFormsAgainOnlyAfterAWrite) {
  Fixture f(DType::kBF16);
  const Tensor first = f.store->acquire(*f.qk, Form::kRowMajor, *f.stream);
  EXPECT_EQ(first.dtype(), DType::kBF16);
  EXPECT_EQ(to_float(first.data<BF16>()[7]), to_float(to_bf16(f.store->master(*f.qk).data<float>()[7])));

  f.store->master(*f.qk).data<float>()[7] = 3;  // not announced: nobody may have seen it yet
  EXPECT_NE(to_float(f.store->acquire(*f.qk, Form::kRowMajor, *f.stream).data<BF16>()[7]), 3);
  f.store->written(*f.norm);  // of another pack
  EXPECT_NE(to_float(f.store->acquire(*f.qk, Form::kRowMajor, *f.stream).data<BF16>()[7]), 3);
  f.store->written(*f.qk);
  const Tensor again = f.store->acquire(*f.qk, Form::kRowMajor, *f.stream);
  EXPECT_EQ(to_float(again.data<BF16>()[7]), 3);
  EXPECT_EQ(again.raw(), first.raw());  // in the same memory
}

TEST(ResidentStore, MakesInt8FormsOfTheMasterAgainAfterAWrite) {
  Fixture f(DType::kBF16);
  for (const Form form : {Form::kForwardInt8, Form::kInputGradInt8}) {
    f.store->initialise(1);
    const auto expected = [&] {
      std::vector<uint8_t> bytes(packed_weight_bytes(f.runtime, DType::kBF16, 48, 32, form));
      Tensor packed = Tensor::wrap(bytes.data(), {static_cast<int64_t>(bytes.size())}, DType::kU8);
      pack_weight(f.runtime, f.store->master(*f.qk), DType::kBF16, form, packed);
      return bytes;
    };
    const auto derived = [&] {
      const Tensor t = f.store->acquire(*f.qk, form, *f.stream);
      return std::vector<uint8_t>(t.data<uint8_t>(), t.data<uint8_t>() + t.num_elements());
    };
    const std::vector<uint8_t> before = derived();
    EXPECT_EQ(before, expected());
    f.store->master(*f.qk).data<float>()[7] = 3;
    EXPECT_EQ(derived(), before);
    f.store->written(*f.qk);
    EXPECT_EQ(derived(), expected());
    EXPECT_NE(derived(), before);
  }
}

TEST(ResidentStore, FormsFollowEveryKindOfWrite) {
  Fixture f;
  RecordingExchange exchange(f.runtime);
  const auto value = [&] { return f.store->acquire(*f.norm, Form::kRowMajor, *f.stream).data<float>()[0]; };
  EXPECT_EQ(value(), 1);
  f.store->visit_state([](StateEntry& e) {
    if (e.name == "parameters/norm") e.value.data<float>()[0] = 5;
  });
  f.store->state_written();
  EXPECT_EQ(value(), 5);
  f.store->initialise(1);
  EXPECT_EQ(value(), 1);
  f.store->written(*f.norm);
  f.store->share_all(exchange);  // the gather doubles the masters; the reader waits for it
  EXPECT_EQ(value(), 2);
}

TEST(ResidentStore, CountsTheMemoryOfDerivedForms) {
  Fixture f(DType::kBF16);
  EXPECT_EQ(f.store->form_bytes(), 0);
  f.store->acquire(*f.qk, Form::kMaster, *f.stream);
  EXPECT_EQ(f.store->form_bytes(), 0);
  f.store->acquire(*f.qk, Form::kRowMajor, *f.stream);
  EXPECT_EQ(f.store->form_bytes(), 48 * 32 * 2);
  f.store->acquire(*f.qk, Form::kForward, *f.stream);
  const auto packed = static_cast<int64_t>(packed_weight_bytes(f.runtime, DType::kBF16, 48, 32, Form::kForward));
  EXPECT_EQ(f.store->form_bytes(), 48 * 32 * 2 + packed);
}

TEST(ResidentStore, MakesTheInputGradientsFormForEachUseWhereOnlyTheForwardFormStays) {
  Fixture f(DType::kBF16);
  ResidentStore lean(f.runtime, f.registry, DType::kBF16, 2048, FormsKept::kForward);
  lean.initialise(1);
  const Tensor kept = f.store->acquire(*f.qk, Form::kInputGrad, *f.stream);
  const int64_t before = f.runtime.memory().stats().in_use;
  {
    const Tensor made = lean.acquire(*f.qk, Form::kInputGrad, *f.stream);
    EXPECT_EQ(std::memcmp(made.raw(), kept.raw(), kept.num_bytes()), 0);
  }
  EXPECT_EQ(f.runtime.memory().stats().in_use, before);
  EXPECT_EQ(lean.form_bytes(), 0);
}

TEST(ResidentStore, GivesTheMemoryOfGradientsBackWhenTheNextStepBegins) {
  Fixture f;
  const int64_t before = f.runtime.memory().stats().in_use;
  f.store->begin_step(1, nullptr);
  f.contribute(*f.head, 1);
  f.store->finish_gradients(*f.stream);
  EXPECT_GT(f.runtime.memory().stats().in_use, before);
  f.store->begin_step(1, nullptr);
  EXPECT_EQ(f.runtime.memory().stats().in_use, before);
}

TEST(ResidentStore, SumsTheSquaresOfCompleteGradientsWhereNothingTravels) {
  Fixture f;
  const auto self = make_self_communicator("test");
  const ShardMap shards(f.store->buckets(), 1, UpdateUnit::kRow);
  DenseExchange local(*self, shards);
  f.store->begin_step(2, &local);
  for (Pack* pack : {f.head, f.norm, f.norm, f.head}) f.contribute(*pack, pack == f.norm ? 1.0f : 0.5f);
  f.store->finish_gradients(*f.stream);
  // Physical rows count, and padding is 1 here like everything else.
  EXPECT_EQ(f.store->gradient_square_sum(),
            static_cast<double>(f.head->num_elements()) + 4.0 * static_cast<double>(f.norm->num_elements()));
  RecordingExchange travelling(f.runtime);
  f.store->begin_step(1, &travelling);
  f.store->finish_gradients(*f.stream);
  EXPECT_EQ(f.store->gradient_square_sum(), std::nullopt);
}

TEST(ResidentStore, FirstContributionOfAStepOverwritesAndLaterOnesAdd) {
  Fixture f;
  for (int step = 0; step < 3; ++step) {
    f.store->begin_step(3, nullptr);
    for (const float value : {1.0f, 10.0f, 100.0f})
      for (Pack* pack : {f.head, f.norm, f.qk, f.embedding}) f.contribute(*pack, value);
    f.store->finish_gradients(*f.stream);
    for (const char* name : {"embedding", "q", "k", "norm", "head"})
      EXPECT_EQ(f.gradient(name), f.all(111, name)) << name;
  }
}

TEST(ResidentStore, PacksWithoutAContributionCountAsZero) {
  Fixture f;
  f.store->begin_step(1, nullptr);
  for (Pack* pack : {f.head, f.norm, f.qk, f.embedding}) f.contribute(*pack, 7);
  f.store->finish_gradients(*f.stream);
  f.store->begin_step(1, nullptr);
  f.contribute(*f.norm, 2);
  f.store->finish_gradients(*f.stream);
  EXPECT_EQ(f.gradient("norm"), f.all(2, "norm"));
  for (const char* name : {"embedding", "q", "k", "head"}) EXPECT_EQ(f.gradient(name), f.all(0, name)) << name;
}

TEST(ResidentStore, SendsBucketsInOrderAsSoonAsTheyAndAllBeforeThemAreComplete) {
  Fixture f;
  RecordingExchange exchange(f.runtime);
  // Buckets from the back: {head}, {norm, qk}, {embedding}.
  ASSERT_EQ(f.store->buckets().size(), 3u);
  f.store->begin_step(2, &exchange);
  for (Pack* pack : {f.head, f.norm, f.qk, f.embedding}) f.contribute(*pack, 1);
  EXPECT_TRUE(exchange.reduced.empty());  // a second pass is to come
  f.contribute(*f.norm, 1);
  f.contribute(*f.qk, 1);
  EXPECT_TRUE(exchange.reduced.empty());  // bucket 1 waits for bucket 0
  f.contribute(*f.head, 1);
  EXPECT_EQ(exchange.reduced, (std::vector<int>{0, 1}));
  f.contribute(*f.embedding, 1);
  EXPECT_EQ(exchange.reduced, (std::vector<int>{0, 1, 2}));
  f.store->finish_gradients(*f.stream);
  EXPECT_EQ(exchange.reduced, (std::vector<int>{0, 1, 2}));
  for (const char* name : {"embedding", "q", "k", "norm", "head"})
    EXPECT_EQ(f.gradient(name), f.all(4, name)) << name;  // doubled by the exchange, once
}

TEST(ResidentStore, SendsBucketsThatNothingContributedToAsWell) {
  Fixture f;
  RecordingExchange exchange(f.runtime);
  f.store->begin_step(1, &exchange);
  f.contribute(*f.qk, 1);
  f.store->finish_gradients(*f.stream);
  EXPECT_EQ(exchange.reduced, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(f.gradient("q"), f.all(2, "q"));
  EXPECT_EQ(f.gradient("head"), f.all(0, "head"));
}

TEST(ResidentStore, SharesTheBucketOfTheFirstLayerFirst) {
  Fixture f;
  RecordingExchange exchange(f.runtime);
  f.store->share_all(exchange);
  EXPECT_EQ(exchange.shared, (std::vector<int>{2, 1, 0}));
  const float before = f.store->master(*f.norm).data<float>()[0];
  f.store->wait_for_masters(*f.stream);
  EXPECT_EQ(f.store->master(*f.norm).data<float>()[0], 2 * before);
  f.store->wait_for_masters(*f.stream);  // nothing left to wait for
  EXPECT_EQ(f.store->master(*f.norm).data<float>()[0], 2 * before);
}

TEST(ResidentStore, WaitsForMastersThatNobodyReadBeforeTheyAreWrittenAgain) {
  Fixture f;
  RecordingExchange exchange(f.runtime);
  f.store->share_all(exchange);
  EXPECT_EQ(exchange.waited(), 0);
  f.store->begin_step(1, nullptr);
  f.store->finish_gradients(*f.stream);
  EXPECT_EQ(exchange.waited(), 3);
}

TEST(ResidentStore, EndsOnlyWhenNothingIsUnderWay) {
  Fixture f;
  RecordingExchange exchange(f.runtime);
  f.store->share_all(exchange);
  f.store->begin_step(1, &exchange);
  f.contribute(*f.head, 1);
  ASSERT_EQ(exchange.works.size(), 4u);
  EXPECT_EQ(exchange.waited(), 0);
  f.store.reset();
  EXPECT_EQ(exchange.waited(), 4);
}

TEST(ResidentStore, VisitsEveryParameterOnceInTheSameOrder) {
  Fixture f;
  const auto visit = [&] {
    std::vector<std::string> names;
    f.store->visit_state([&](StateEntry& e) {
      names.push_back(e.name);
      const Parameter* p = f.registry.find(e.name.substr(std::strlen("parameters/")));
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(e.shape, p->spec.shape);
      EXPECT_EQ(e.boxes, p->boxes);
      EXPECT_EQ(e.value.shape(), p->local_shape);
      EXPECT_EQ(e.rule, Reshard::kSlice);
      EXPECT_EQ(e.value.raw(), f.store->master(*p).raw());
    });
    return names;
  };
  const std::vector<std::string> names = visit();
  EXPECT_EQ(names, (std::vector<std::string>{"parameters/embedding", "parameters/q", "parameters/k", "parameters/norm",
                                             "parameters/head"}));
  EXPECT_EQ(visit(), names);
}

}  // namespace
}  // namespace deepflow
