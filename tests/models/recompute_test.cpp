#include "core/error.h"
#include "models/gemma2/config.h"
#include "models/gpt2/config.h"
#include "models/llama/config.h"
#include "models/mixtral/config.h"
#include "models/qwen3/config.h"
#include "tests/models/model_fixture.h"
#include "tests/models/mtp_model.h"

#include <gtest/gtest.h>

#include <map>

namespace deepflow {
namespace {

using testing::some_tokens;
using testing::TinyModel;
using Backward = TinyModel::Backward;

constexpr int64_t kVocabulary = 61, kCount = 6, kLength = 80, kLayers = 4;

std::vector<std::unique_ptr<ModelConfig>> some_configs() {
  auto gpt2 = std::make_unique<Gpt2Config>();
  gpt2->layers = kLayers, gpt2->width = 64, gpt2->heads = 4, gpt2->dropout = 0.2f;
  auto llama = std::make_unique<LlamaConfig>();
  llama->layers = kLayers, llama->width = 64, llama->heads = 4, llama->kv_heads = 2, llama->head_dim = 12;
  llama->attention_bias = llama->mlp_bias = true;
  auto qwen3 = std::make_unique<Qwen3Config>();
  qwen3->layers = kLayers, qwen3->width = 64, qwen3->heads = 4, qwen3->kv_heads = 2, qwen3->head_dim = 24;
  auto gemma2 = std::make_unique<Gemma2Config>();
  gemma2->layers = kLayers, gemma2->width = 64, gemma2->heads = 4, gemma2->kv_heads = 2;
  gemma2->sliding_window = 11;
  std::vector<std::unique_ptr<ModelConfig>> configs;
  auto mixtral = std::make_unique<MixtralConfig>();
  mixtral->layers = kLayers, mixtral->width = 64, mixtral->heads = 4, mixtral->experts = 5, mixtral->ffn = 32;
  mixtral->balance = {.loss = 0.1, .z_loss = 0.01, .bias_rate = 0.01, .capacity = 1.1};
  configs.push_back(std::move(gpt2));
  configs.push_back(std::move(llama));
  configs.push_back(std::move(mixtral));
  configs.push_back(std::move(qwen3));
  configs.push_back(std::move(gemma2));
  auto mtp = std::make_unique<testing::MtpConfig>();
  mtp->layers = kLayers, mtp->width = 64, mtp->heads = 4, mtp->kv_heads = 2;
  configs.push_back(std::move(mtp));
  for (auto& config : configs) config->fill_in(kVocabulary, kLength);
  return configs;
}

using Gradients = std::map<std::string, std::vector<float>>;

struct Pass {
  float loss;
  Gradients gradients;
  int64_t peak;
};

Pass run(TinyModel& model, Backward how) {
  model.sequence_weight = 1.0f / kCount;
  Pass pass{model.train_pass(some_tokens(kCount * kLength, kVocabulary), kCount, 5, 1, how), {}, 0};
  for (const Parameter& p : model.registry().parameters()) pass.gradients[p.spec.name] = model.gradient(p.spec.name);
  pass.peak = model.runtime().memory().stats().peak;
  return pass;
}

void expect_same(const Pass& a, const Pass& b, const std::string& what) {
  EXPECT_EQ(a.loss, b.loss) << what;
  for (const auto& [name, gradient] : a.gradients) EXPECT_EQ(gradient, b.gradients.at(name)) << what << ": " << name;
}

TEST(Recompute, EveryPolicyGivesTheSameBits) {
  for (const auto& config : some_configs())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      TinyModel kept(*config, Recompute::kNone, dtype);
      const Pass expected = run(kept, Backward::kWhole);
      for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull})
        for (const Backward how : {Backward::kWhole, Backward::kSplit}) {
          TinyModel model(*config, policy, dtype);
          expect_same(run(model, how), expected,
                      fmt::format("{} {} policy {} {}", config->family(), name_of(dtype), static_cast<int>(policy),
                                  how == Backward::kSplit ? "split" : "whole"));
        }
    }
}

TEST(Recompute, EveryLayerMayHaveItsOwnPolicy) {
  for (const auto& config : some_configs()) {
    TinyModel kept(*config), mixed(*config, Recompute::kAuto);
    mixed.model().set_recompute({Recompute::kFull, Recompute::kNone, Recompute::kSelective, Recompute::kFull});
    expect_same(run(mixed, Backward::kWhole), run(kept, Backward::kWhole), config->family());
  }
}

TEST(Recompute, KeepsLessTheMoreItMakesAgain) {
  for (const auto& config : some_configs())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      TinyModel none(*config, Recompute::kNone, dtype), selective(*config, Recompute::kSelective, dtype),
          full(*config, Recompute::kFull, dtype);
      const int64_t most = run(none, Backward::kWhole).peak, less = run(selective, Backward::kWhole).peak;
      EXPECT_GT(most, less) << config->family();
      EXPECT_GT(less, run(full, Backward::kWhole).peak) << config->family();
    }
}

TEST(Recompute, AModelNotYetDecidedKeepsEverything) {
  const auto configs = some_configs();
  TinyModel none(*configs[0]), undecided(*configs[0], Recompute::kAuto);
  EXPECT_EQ(run(none, Backward::kWhole).peak, run(undecided, Backward::kWhole).peak);
}

}  // namespace
}  // namespace deepflow
