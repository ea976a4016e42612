#include "engine/memory_plan.h"

#include "core/error.h"
#include "models/gpt2/config.h"
#include "models/llama/config.h"
#include "models/mixtral/config.h"
#include "models/options.h"
#include "models/parts/decoder_config.h"
#include "tests/models/model_fixture.h"
#include "tests/models/mtp_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using ::testing::HasSubstr;
using testing::MtpConfig;
using testing::some_tokens;
using testing::TinyModel;

constexpr Recompute kPolicies[] = {Recompute::kNone, Recompute::kSelective, Recompute::kFull};

// Llama 3.2 1B without its embedding.
PassShape one_billion(DType dtype = DType::kBF16) {
  PassShape s;
  s.model.width = 2048, s.model.heads = 32, s.model.head_dim = 64, s.model.value_dim = 64, s.model.kv_heads = 8,
  s.model.ffn = 8192;
  s.model.gated_mlp = true;
  s.chunks = {{0, 16, false, false}};
  s.compute = dtype;
  s.sequence = 1024, s.rows = 4096;
  return s;
}

std::vector<Recompute> all(const PassShape& s, Recompute policy) {
  return std::vector<Recompute>(static_cast<size_t>(s.layers()), policy);
}

TEST(ActivationMemory, KeepsWhatTheFormulasSay) {
  PassShape llama = one_billion();
  // docs/memory.md: two f32 residuals and their statistics, log-sum-exps; normed rows, q|k|v, attention's output, gate
  // and up, their product.
  EXPECT_EQ(kept_bytes(llama, Recompute::kNone),
            4096 * (8 * 2048 + 8 + 4 * 32 + 2 * (2 * 2048 + 2 * 2048 + 2 * 512 + 3 * 8192)));
  EXPECT_EQ(kept_bytes(llama, Recompute::kSelective),
            4096 * (8 * 2048 + 8 + 4 * 32 + 2 * (2 * 2048 + 2 * 512 + 2 * 8192)));
  EXPECT_EQ(kept_bytes(llama, Recompute::kFull), 4096 * (4 + 2) * 2048);
  PassShape gemma = llama;  // queries and keys, and outputs of attention and MLP, in front of their norms
  gemma.model.qk_norm = gemma.model.post_norms = true;
  for (const Recompute policy : {Recompute::kNone, Recompute::kSelective})
    EXPECT_EQ(kept_bytes(gemma, policy), kept_bytes(llama, policy) + 4096 * 2 * (2048 + 512 + 2 * 2048));
  PassShape gpt2;
  gpt2.model.width = 768, gpt2.model.heads = 12, gpt2.model.head_dim = 64, gpt2.model.value_dim = 64,
  gpt2.model.kv_heads = 12;
  gpt2.model.ffn = 3072, gpt2.model.row_statistics = 2;
  gpt2.sequence = gpt2.rows = 1024;
  EXPECT_EQ(kept_bytes(gpt2, Recompute::kNone), 1024 * (8 * 768 + 16 + 4 * 12 + 4 * (6 * 768 + 2 * 3072)));
  EXPECT_EQ(kept_bytes(gpt2, Recompute::kSelective), 1024 * (8 * 768 + 16 + 4 * 12 + 4 * (4 * 768 + 3072)));
  EXPECT_EQ(kept_bytes(gpt2, Recompute::kFull), 1024 * 8 * 768);
}

TEST(ActivationMemory, IsSplitByTheAxes) {
  for (const Recompute policy : kPolicies) {
    const int64_t whole = kept_bytes(one_billion(), policy);
    PassShape s = one_billion();
    s.cp = 4;
    EXPECT_EQ(kept_bytes(s, policy), whole / 4);
    s = one_billion();
    s.tp = 4;
    s.sequence_parallel = true;
    EXPECT_NEAR(static_cast<double>(kept_bytes(s, policy)), static_cast<double>(whole) / 4, 1);
    // Without it the residual stream and the normed rows are whole on every rank.
    s.sequence_parallel = false;
    const int64_t normed = policy == Recompute::kNone ? 2 * 2 * 2048 : 0;
    const int64_t stream = 4096 * (policy == Recompute::kFull ? 6 * 2048 : 8 * 2048 + 8 + normed);
    EXPECT_EQ(kept_bytes(s, policy), stream + (whole - stream) / 4);
  }
}

// A first micro-batch, behind which all gradients are there, then `count` forwards, then their backwards.
std::vector<Action> in_flight(int count, Do backward = Do::kBW) {
  std::vector<Action> actions{{Do::kF, 0, 0}, {Do::kBW, 0, 0}};
  for (int m = 1; m <= count; ++m) actions.push_back({Do::kF, 0, m});
  for (int m = 1; m <= count; ++m) actions.push_back({backward, 0, m});
  for (int m = 1; m <= count && backward == Do::kB; ++m) actions.push_back({Do::kW, 0, m});
  return actions;
}

TEST(ActivationMemory, CountsEveryMicroBatchInFlight) {
  PassShape s = one_billion();
  s.chunks = {{0, 16, true, true}};
  s.table_rows = 64;
  s.model.row_statistics = 0;
  for (const Recompute policy : kPolicies) {
    s.actions = in_flight(1);
    const int64_t one = peak_activation_bytes(s, all(s, policy));
    s.actions = in_flight(3);
    // The first block has no output of a predecessor to keep. Numbers of rows; and what the head keeps.
    const int64_t less = policy == Recompute::kFull ? 2 * 4096 * 2048 : 0;
    const int64_t more = 4096 * (8 + (4 + 2) * 2048 + 2 * 64 + 3 * 4);
    EXPECT_EQ(peak_activation_bytes(s, all(s, policy)) - one, 2 * (16 * kept_bytes(s, policy) - less + more));
  }
}

// Every product's input and the gradient of its output wait, and more than that where the input is made again.
TEST(ActivationMemory, CountsWeightGradientsThatArePutOff) {
  PassShape s = one_billion();
  s.chunks = {{0, 16, true, true}};
  s.table_rows = 64;
  const auto peak = [&](Recompute policy, Do backward, int count) {
    s.actions = in_flight(count, backward);
    return peak_activation_bytes(s, all(s, policy));
  };
  const int64_t wide = 2 * 2 * 8192, products = 2 * (2 * 2048 + 2 * 2048 + (2048 + 2 * 512) + 2048 + 3 * 8192);
  for (const Recompute policy : kPolicies) {
    const int64_t again = policy == Recompute::kSelective ? wide + 2 * 4 * 2048 - 2 * (2 * 2048 + 8192) : 0;
    const int64_t waiting = 4096 * (16 * (products + again) + 4 * 2048 + 2 * (2048 + 64));  // embedding, head
    const int64_t kept = peak(policy, Do::kBW, 4) - peak(policy, Do::kBW, 3);
    // With many in flight the last backward is the one that takes most: all others wait by then.
    if (waiting > kept)
      EXPECT_EQ(peak(policy, Do::kB, 4) - peak(policy, Do::kB, 3), waiting);
    else
      EXPECT_EQ(peak(policy, Do::kB, 4) - peak(policy, Do::kB, 3), kept);
  }
}

// Even load: each rank's experts see as many rows as the rank sends.
TEST(ActivationMemory, CountsExpertsOverRanks) {
  PassShape s = one_billion();
  s.model.experts = 8, s.model.expert_choices = 2, s.model.expert_ffn = 1024;
  const int64_t whole = kept_bytes(s, Recompute::kNone);
  s.expert_ranks = 4;
  EXPECT_EQ(kept_bytes(s, Recompute::kNone) - whole, 4096 * 2 * 12);  // where rows have come from and go
  s.expert_load = {1.5};
  EXPECT_EQ(kept_bytes(s, Recompute::kNone) - whole, 4096 * 2 * (18 + 2048 + 3 * 1024));
  s.expert_load = {1};
  s.etp = 2;  // twice the rows, of half the features
  EXPECT_EQ(kept_bytes(s, Recompute::kNone) - whole, 4096 * 2 * (24 + 16 + 2 * 2 * 2048));
}

// docs/memory.md.
TEST(StateMemory, CountsWhatEachOptimizerKeeps) {
  LlamaConfig config;
  config.layers = 1, config.width = 64, config.heads = 4, config.kv_heads = 2, config.ffn = 96;
  config.tie_embeddings = false;
  config.fill_in(100, 32);
  TinyModel model(config);
  const int64_t table = 100 * 64, norms = 3 * 64, matrices = 64 * (64 + 32 + 32 + 64 + 3 * 96);
  const auto bytes = [&](const char* name) {
    OptimOptions optim;
    optim.name = name;
    return optimizer_bytes(optim, model.store().pieces());
  };
  EXPECT_EQ(bytes("adamw"), 8 * (2 * table + norms + matrices));
  EXPECT_EQ(bytes("sgd"), 4 * (2 * table + norms + matrices));
  EXPECT_EQ(bytes("lion"), 4 * (2 * table + norms + matrices));
  EXPECT_EQ(bytes("muon"), 8 * (2 * table + norms) + 4 * matrices);
  // The head is quantised, the embedding is not. All rows have 64 columns, one block, but those of down have 96.
  EXPECT_EQ(bytes("adamw8bit"),
            8 * (table + norms) + 2 * (table + matrices) + 8 * (100 + 64 + 32 + 32 + 64 + 2 * 96 + 2 * 64));
  EXPECT_EQ(bytes("adafactor"), 4 * (2 * (100 + 64) + norms + 2 * (64 + 64) + 2 * (32 + 64) + 3 * (96 + 64)));
}

TEST(StateMemory, CountsTheFormsOfExperts) {
  ParameterRegistry registry;
  ParameterSpec experts, norm;
  experts.name = "experts", experts.shape = {4, 64, 128}, experts.role = Role::kExpert;
  norm.name = "norm", norm.shape = {128}, norm.role = Role::kNorm;
  registry.add(experts);
  registry.add(norm);
  registry.freeze({});
  Runtime runtime;
  StateInputs in{runtime, registry, {}};
  StateMemory s = state_memory(in);
  EXPECT_EQ(s.masters, 4 * (4 * 64 * 128 + 128));
  EXPECT_EQ(s.gradients, s.masters);
  EXPECT_EQ(s.optimizer, 2 * s.masters);
  EXPECT_EQ(s.forms, 2 * 4 * 4 * 64 * 128);
  in.store.forms_kept = FormsKept::kForward;
  EXPECT_EQ(state_memory(in).forms, 4 * 4 * 64 * 128);
  in.optimizer_in_file = true;
  EXPECT_EQ(state_memory(in).optimizer, 0);
}

TEST(MemoryPlan, RecomputesNoMoreThanItMust) {
  PassShape s = one_billion();
  s.actions = in_flight(1);
  StateMemory state;
  state.masters = 1000;
  const auto need = [&](int64_t changed, Recompute first, Recompute rest) {
    std::vector<Recompute> policies = all(s, rest);
    std::fill_n(policies.begin(), changed, first);
    return state.in_step() + peak_activation_bytes(s, policies);
  };
  const struct {
    int64_t changed;
    Recompute first, rest;
  } cases[] = {{0, Recompute::kSelective, Recompute::kNone},
               {5, Recompute::kSelective, Recompute::kNone},
               {16, Recompute::kSelective, Recompute::kNone},
               {7, Recompute::kFull, Recompute::kSelective},
               {15, Recompute::kFull, Recompute::kSelective}};
  for (const auto& c : cases) {
    const MemoryPlan plan = plan_memory(s, state, need(c.changed, c.first, c.rest));
    EXPECT_EQ(plan.total(), plan.budget);
    EXPECT_EQ(plan.count(c.first), c.changed);
    EXPECT_EQ(plan.count(c.rest), s.layers() - c.changed);
    for (int64_t layer = 0; layer < c.changed; ++layer) EXPECT_EQ(plan.policies[static_cast<size_t>(layer)], c.first);
  }
}

// Where that is more than what any pass takes.
TEST(MemoryPlan, CountsTheUpdate) {
  const PassShape s = one_billion();
  StateMemory state;
  state.gradients = 1000;
  const int64_t passes = step_bytes(s, state, all(s, Recompute::kFull));
  EXPECT_EQ(passes, peak_activation_bytes(s, all(s, Recompute::kFull)));
  state.update = passes;
  EXPECT_EQ(step_bytes(s, state, all(s, Recompute::kFull)), passes + 1000);
}

TEST(MemoryPlan, SaysWhatIsNeededWhenNothingFits) {
  const PassShape s = one_billion();
  try {
    StateMemory state;
    state.masters = 18'000'000'000;
    plan_memory(s, state, 4'000'000'000);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(), HasSubstr("its budget is 4.00 GB (train.memory_budget"));
    EXPECT_THAT(e.what(), HasSubstr("18.00 GB of parameters"));
    EXPECT_THAT(e.what(), HasSubstr("4096 tokens"));
    EXPECT_THAT(e.what(), HasSubstr("lower train.micro_batch"));
  }
}

TEST(MemoryPlan, BudgetsTwoThirdsOfTheShareUnlessTold) {
  Gpt2Config config;
  config.layers = 4, config.width = 64, config.heads = 4;
  config.fill_in(300, 64);
  TinyModel model(config);
  TrainingMemory run;
  run.train.global_batch = 8;
  run.train.micro_batch = 8;
  run.sequence = 64;
  const auto plan = [&](int64_t share) {
    RankLayout layout{
        model.model().shape(), model.runtime(), model.registry(), {{0, model.model().chunks().front()}}, {}};
    return plan_training(run, layout, share);
  };
  const MemoryPlan plenty = plan(int64_t{1} << 40);
  EXPECT_EQ(plenty.count(Recompute::kNone), 4);
  EXPECT_EQ(plan(0).count(Recompute::kNone), 4);
  EXPECT_EQ(plan(plenty.total() / 2 * 3 - 3).count(Recompute::kSelective), 1);
  run.train.memory_budget = static_cast<double>(plenty.total() - 1) * 1e-9;
  EXPECT_EQ(plan(int64_t{1} << 40).count(Recompute::kSelective), 1);
  run.train.memory_budget = 1e-4;
  EXPECT_THROW(plan(int64_t{1} << 40), ConfigError);
}

// Peak of a second pass, when all derived forms exist, above what is in use between passes.
int64_t measured_peak(TinyModel& model, int64_t count, int64_t length) {
  const auto vocabulary = model.model().shape().vocabulary;
  for (int pass = 0; pass < 2; ++pass) {
    model.train_pass(some_tokens(count * length, vocabulary), count);
    model.store().begin_step(1, nullptr);  // gives the gradients back
  }
  const MemoryStats stats = model.runtime().memory().stats();
  return stats.peak - stats.in_use;
}

// Over what the allocator measures.
double ratio_of_estimate(const ModelConfig& config, Recompute policy, DType dtype, int64_t length) {
  constexpr int64_t kCount = 4, kBucket = 1 << 14;
  TinyModel model(config, policy, dtype, kBucket);
  if (dtype == DType::kBF16 && !model.runtime().cpu().avx512_bf16) return 1;  // products go by f32 copies
  PassShape s;
  s.model = model.model().shape();
  s.chunks.front().layers = s.model.layers;
  s.compute = dtype;
  s.sequence = length, s.rows = kCount * length;
  s.threads = model.runtime().pool().size();
  s.bucket_elements = kBucket;
  return static_cast<double>(peak_activation_bytes(s, all(s, policy))) /
         static_cast<double>(measured_peak(model, kCount, length));
}

TEST(ActivationMemory, IsWhatTheAllocatorMeasures) {
  constexpr int64_t kVocabulary = 1000;
  const std::pair<std::string, std::vector<int64_t>> cases[] = {
      {"llama", {64, 192, 320}}, {"gpt2", {64, 192, 320}}, {"qwen3", {192}}, {"gemma2", {192}}, {"mtp", {192, 320}}};
  for (const auto& [family, widths] : cases)
    for (const int64_t width : widths) {
      const int64_t length = width == 64 ? 64 : 128;
      ModelOptions options;
      options.family = family;
      if (family == "mtp") options.set_config(std::make_unique<MtpConfig>());
      ModelConfig& config = options.config();
      if (auto* c = dynamic_cast<DecoderConfig*>(&config)) {
        c->layers = 4, c->width = width, c->heads = width / 32, c->kv_heads = c->heads / 2;
      } else {
        auto& gpt2 = dynamic_cast<Gpt2Config&>(config);
        gpt2.layers = 4, gpt2.width = width, gpt2.heads = width / 32, gpt2.dropout = 0.1f;
      }
      config.fill_in(kVocabulary, length);
      for (const DType dtype : {DType::kF32, DType::kBF16})
        for (const Recompute policy : kPolicies)
          EXPECT_NEAR(ratio_of_estimate(config, policy, dtype, length), 1, 0.1)
              << config.family() << " " << width << " " << name_of(dtype) << " policy " << static_cast<int>(policy);
    }
}

// Which rows an expert gets is not known before: the estimate is a little more.
TEST(ActivationMemory, BoundsLayersOfExperts) {
  for (const int64_t choices : {1, 3}) {
    MixtralConfig config;
    config.layers = 3, config.width = 64, config.heads = 2, config.experts = 4;
    config.expert_choices = choices, config.ffn = 96;
    config.fill_in(1000, 64);
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const Recompute policy : kPolicies) {
        const double ratio = ratio_of_estimate(config, policy, dtype, 64);
        EXPECT_GT(ratio, 0.95) << choices << " " << name_of(dtype) << " policy " << static_cast<int>(policy);
        EXPECT_LT(ratio, 1.2) << choices << " " << name_of(dtype) << " policy " << static_cast<int>(policy);
      }
  }
}

}  // namespace
}  // namespace deepflow
