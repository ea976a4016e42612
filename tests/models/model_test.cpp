#include "models/model.h"

#include "core/error.h"
#include "kernels/ops/attention.h"
#include "models/deepseek_v2/config.h"
#include "models/deepseek_v3/config.h"
#include "models/gemma2/config.h"
#include "models/gpt2/config.h"
#include "models/llama/config.h"
#include "models/mixtral/config.h"
#include "models/qwen2/config.h"
#include "models/qwen3/config.h"
#include "models/qwen3_moe/config.h"
#include "models/registry.h"
#include "tests/models/model_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <map>
#include <set>

namespace deepflow {
namespace {

using testing::some_tokens;
using testing::TinyModel;

Gpt2Config gpt2() {
  Gpt2Config c;
  c.layers = 2, c.width = 32, c.heads = 4;
  c.fill_in(61, 24);
  return c;
}

LlamaConfig llama() {
  LlamaConfig c;
  c.layers = 2, c.width = 32, c.heads = 4, c.kv_heads = 2, c.head_dim = 12;
  c.fill_in(61, 24);
  return c;
}

MixtralConfig mixtral() {
  MixtralConfig c;
  c.layers = 2, c.width = 32, c.heads = 4, c.kv_heads = 2, c.experts = 5, c.ffn = 24;
  c.fill_in(61, 24);
  return c;
}

Qwen3MoeConfig qwen3_moe() {
  Qwen3MoeConfig c;
  c.layers = 2, c.width = 32, c.heads = 4, c.kv_heads = 2, c.head_dim = 12, c.experts = 6, c.expert_choices = 3;
  c.ffn = 16, c.normalise_weights = false, c.attention_bias = true;
  c.fill_in(61, 24);
  return c;
}

// Values narrower than keys, latent queries, a layer without experts, and a router in groups.
void make_small(LatentDecoderConfig& c) {
  c.layers = 3, c.width = 32, c.heads = 4, c.query_rank = 20, c.latent_rank = 16;
  c.nope_dim = 8, c.rope_dim = 4, c.value_dim = 10, c.attention_bias = true;
  c.dense_layers = 1, c.dense_ffn = 40, c.ffn = 16, c.experts = 6, c.expert_choices = 3;
  c.router_groups = 3, c.router_top_groups = 2;
  c.fill_in(61, 24);
}

// One small model of every family; windows are shorter than the sequences of the tests.
std::vector<std::unique_ptr<ModelConfig>> every_family() {
  std::vector<std::unique_ptr<ModelConfig>> configs;
  configs.push_back(std::make_unique<Gpt2Config>(gpt2()));
  configs.push_back(std::make_unique<LlamaConfig>(llama()));
  const auto add = [&](auto config) {
    config->layers = 2, config->width = 32, config->heads = 4, config->kv_heads = 2, config->head_dim = 12;
    config->fill_in(61, 24);
    configs.push_back(std::move(config));
  };
  auto qwen2 = std::make_unique<Qwen2Config>();
  qwen2->window = {5, 1};
  add(std::move(qwen2));
  add(std::make_unique<Qwen3Config>());
  auto gemma2 = std::make_unique<Gemma2Config>();
  gemma2->sliding_window = 4, gemma2->attention_softcap = 2, gemma2->logit_softcap = 3;
  add(std::move(gemma2));
  configs.push_back(std::make_unique<MixtralConfig>(mixtral()));
  configs.push_back(std::make_unique<Qwen3MoeConfig>(qwen3_moe()));
  auto deepseek_v2 = std::make_unique<DeepseekV2Config>();
  make_small(*deepseek_v2);
  deepseek_v2->query_rank = 0;
  configs.push_back(std::move(deepseek_v2));
  auto deepseek_v3 = std::make_unique<DeepseekV3Config>();
  make_small(*deepseek_v3);
  configs.push_back(std::move(deepseek_v3));
  return configs;
}

// The parameters of a model without its values.
struct Declared {
  Runtime runtime{{.threads = 1}};
  ParameterRegistry registry;
  std::unique_ptr<CausalModel> model;
  explicit Declared(const ModelConfig& config) : model(config.build(runtime, registry, Recompute::kNone)) {
    registry.freeze({});
  }
};

TEST(Gpt2, HasTheParametersOfTheSmallestPublishedModel) {
  Gpt2Config c;
  c.layers = 12, c.width = 768, c.heads = 12;
  c.fill_in(50257, 1024);
  const Declared declared(c);
  EXPECT_EQ(declared.registry.num_elements(), 124439808);
  // 6 N without the 1024 learned positions, and 12 L H K T.
  EXPECT_DOUBLE_EQ(training_flops_per_token(declared.model->shape(), declared.registry, 256),
                   6.0 * (124439808 - 1024 * 768) + 12.0 * 12 * 768 * 256);
}

TEST(Llama, HasTheParametersOfTheSmallestThirdGenerationModel) {
  LlamaConfig c;  // Llama 3.2 1B
  c.layers = 16, c.width = 2048, c.heads = 32, c.kv_heads = 8, c.ffn = 8192, c.tie_embeddings = true;
  c.fill_in(128256, 64);
  const Declared tied(c);
  EXPECT_EQ(tied.registry.num_elements(), 1235814400);
  c.tie_embeddings = false;
  const Declared untied(c);
  EXPECT_EQ(untied.registry.num_elements(), 1235814400 + 128256 * 2048);
  // A head of its own is a product as the tied one was; the table that is only looked up is none.
  EXPECT_EQ(training_flops_per_token(tied.model->shape(), tied.registry, 64),
            training_flops_per_token(untied.model->shape(), untied.registry, 64));
}

TEST(Mixtral, HasTheParametersOfThePublicModel) {
  std::ifstream file(DEEPFLOW_MODELS "/mixtral/mixtral_8x7b.json");
  const auto config = model_config_from_hf(nlohmann::json::parse(file), "mixtral_8x7b.json");
  const Declared declared(*config);
  EXPECT_EQ(declared.registry.num_elements(), 46702792704);
  // A token meets two of the eight experts of a layer; embeddings are looked up.
  const int64_t idle = 32LL * 6 * 3 * 4096 * 14336 + 32000LL * 4096;
  EXPECT_DOUBLE_EQ(training_flops_per_token(declared.model->shape(), declared.registry, 4096),
                   6.0 * static_cast<double>(46702792704 - idle) + 12.0 * 32 * 4096 * 4096);
}

TEST(Qwen3Moe, HasTheParametersOfThePublicModel) {
  std::ifstream file(DEEPFLOW_MODELS "/qwen3_moe/qwen3_30b_a3b.json");
  const nlohmann::json json = nlohmann::json::parse(file);
  const auto config = model_config_from_hf(json, "qwen3_30b_a3b.json");
  const Declared declared(*config);
  EXPECT_EQ(declared.registry.num_elements(), 30532122624);
  const nlohmann::json again = config->to_hf();
  for (const char* key : {"intermediate_size", "moe_intermediate_size", "num_experts", "norm_topk_prob", "head_dim",
                          "rope_theta", "hidden_size", "num_key_value_heads", "vocab_size", "mlp_only_layers"})
    EXPECT_EQ(again.at(key), json.at(key)) << key;
}

TEST(Models, DeclareParametersInTheOrderOfTheForwardPass) {
  const Declared declared(llama());
  std::vector<std::string> names;
  for (const Parameter& p : declared.registry.parameters()) names.push_back(p.spec.name);
  const std::vector<std::string> first(names.begin(), names.begin() + 10);
  EXPECT_THAT(
      first, ::testing::ElementsAre("embedding.weight", "layers.0.attention_norm.weight", "layers.0.attention.q.weight",
                                    "layers.0.attention.k.weight", "layers.0.attention.v.weight",
                                    "layers.0.attention.out.weight", "layers.0.mlp_norm.weight",
                                    "layers.0.mlp.gate.weight", "layers.0.mlp.up.weight", "layers.0.mlp.down.weight"));
  EXPECT_EQ(names.back(), "head.weight");
}

TEST(Models, PackWhatOneProductReads) {
  Declared declared(llama());
  const Parameter* q = declared.registry.find("layers.1.attention.q.weight");
  EXPECT_EQ(q->pack, declared.registry.find("layers.1.attention.v.weight")->pack);
  EXPECT_EQ(q->pack->rows, (4 + 2 + 2) * 12);
  EXPECT_EQ(declared.registry.find("layers.1.mlp.gate.weight")->pack,
            declared.registry.find("layers.1.mlp.up.weight")->pack);
}

// Names of the parameters that a map speaks of, those of experts once for each of their matrices.
std::multiset<std::string> mapped_matrices(const NameMap& map, const ParameterRegistry& registry) {
  std::map<std::string, int64_t> matrices;
  for (const Parameter& p : registry.parameters())
    matrices[p.spec.name] = p.spec.role == Role::kExpert ? p.spec.shape[0] : 1;
  std::multiset<std::string> names;
  for (const NameMapEntry& entry : map)
    for (const std::string& name : entry.logical)
      for (int64_t e = 0; e < (entry.index < 0 ? matrices[name] : 1); ++e) names.insert(name);
  return names;
}

TEST(Models, NameMapsCoverEveryParameterOnce) {
  Gpt2Config untied = gpt2();
  untied.tie_embeddings = false;
  LlamaConfig biased = llama();
  biased.attention_bias = biased.mlp_bias = biased.tie_embeddings = true;
  std::vector<std::unique_ptr<ModelConfig>> configs = every_family();
  configs.push_back(untied.clone());
  configs.push_back(biased.clone());
  MixtralConfig with_bias = mixtral();
  with_bias.balance.bias_rate = 0.01;
  with_bias.tie_embeddings = true;
  configs.push_back(with_bias.clone());
  for (const auto& config : configs) {
    const Declared declared(*config);
    const ForeignNames names = declared.model->hugging_face_names();
    std::multiset<std::string> existing;
    for (const Parameter& p : declared.registry.parameters())
      for (int64_t e = 0; e < (p.spec.role == Role::kExpert ? p.spec.shape[0] : 1); ++e) existing.insert(p.spec.name);
    EXPECT_EQ(mapped_matrices(names.map, declared.registry), existing) << config->family();
    for (const NameMap& other : names.also_read)
      EXPECT_EQ(mapped_matrices(other, declared.registry), existing) << config->family();
  }
}

TEST(Models, ShrinkInitialWeightsThatJoinTheResidualStream) {
  LlamaConfig c = llama();
  c.width = 128, c.ffn = 512, c.layers = 8;
  TinyModel model(c);
  const auto stddev = [&](const std::string& name) {
    const Tensor t = model.store().master(*model.registry().find(name));
    return std::sqrt(sum_squares(model.runtime(), t) / static_cast<double>(t.num_elements()));
  };
  EXPECT_NEAR(stddev("layers.3.mlp.up.weight"), 0.02, 0.001);
  EXPECT_NEAR(stddev("layers.3.mlp.down.weight"), 0.02 / 4, 0.0003);
  EXPECT_EQ(stddev("layers.3.mlp_norm.weight"), 1);
}

TEST(Models, RefuseSequencesLongerThanTheirPositions) {
  TinyModel model(gpt2());
  std::vector<int32_t> tokens = some_tokens(25, 61);
  ForwardContext context = model.context(1, 25);
  EXPECT_THROW(model.model().logits(context, Tensor::wrap(tokens.data(), {25}, DType::kI32)), ConfigError);
}

TEST(Models, RefuseTokensOutsideTheVocabulary) {
  TinyModel model(llama());
  std::vector<int32_t> tokens = {1, 61};
  ForwardContext context = model.context(1, 2);
  EXPECT_THROW(model.model().logits(context, Tensor::wrap(tokens.data(), {2}, DType::kI32)), DataError);
}

TEST(Models, BeginNearAUniformGuess) {
  for (const auto& config : every_family()) {
    TinyModel model(*config);
    const auto* latent = dynamic_cast<const LatentDecoderConfig*>(config.get());
    const float losses = 1 + (latent ? latent->mtp_weight : 0);  // both predict nothing yet
    EXPECT_NEAR(model.train_pass(some_tokens(48, 61), 2) / (47.0f / 48.0f), losses * std::log(61.0f), 0.1)
        << config->family();
  }
}

void expect_same_gradients(TinyModel& a, TinyModel& b, float tolerance) {
  for (const Parameter& p : a.registry().parameters()) {
    const std::vector<float> x = a.gradient(p.spec.name), y = b.gradient(p.spec.name);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], tolerance) << p.spec.name << " " << i;
  }
}

TEST(Models, RecomputedBlocksGiveTheSameBits) {
  Gpt2Config with_dropout = gpt2();
  with_dropout.dropout = 0.3f;
  const LlamaConfig plain = llama();
  for (const ModelConfig* config : std::initializer_list<const ModelConfig*>{&with_dropout, &plain}) {
    TinyModel kept(*config), recomputed(*config, Recompute::kFull);
    EXPECT_EQ(kept.train_pass(some_tokens(48, 61), 2), recomputed.train_pass(some_tokens(48, 61), 2));
    expect_same_gradients(kept, recomputed, 0);
  }
}

// Of all gradients, divided by `scale`.
double relative_gradient_error(TinyModel& got, TinyModel& expected, double scale) {
  double difference = 0, norm = 0;
  for (const Parameter& p : expected.registry().parameters()) {
    const std::vector<float> x = got.gradient(p.spec.name), y = expected.gradient(p.spec.name);
    for (size_t i = 0; i < x.size(); ++i) {
      const double d = static_cast<double>(x[i]) / scale - static_cast<double>(y[i]);
      difference += d * d;
      norm += static_cast<double>(y[i]) * static_cast<double>(y[i]);
    }
  }
  return std::sqrt(difference / norm);
}

TEST(Models, F16StaysNearF32AndNearerThanBf16) {
  const Gpt2Config a = gpt2();
  const LlamaConfig b = llama();
  const std::vector<int32_t> tokens = some_tokens(48, 61);
  for (const ModelConfig* config : std::initializer_list<const ModelConfig*>{&a, &b}) {
    TinyModel exact(*config), bf16(*config, Recompute::kNone, DType::kBF16);
    TinyModel plain(*config, Recompute::kNone, DType::kF16), scaled(*config, Recompute::kNone, DType::kF16);
    const float loss = exact.train_pass(tokens, 2);
    bf16.train_pass(tokens, 2);
    EXPECT_NEAR(plain.train_pass(tokens, 2), loss, 1e-3 * loss);
    EXPECT_NEAR(scaled.train_pass(tokens, 2, 0, 4096), loss, 1e-3 * loss);
    const double error = relative_gradient_error(scaled, exact, 4096);
    EXPECT_LT(error, 5e-3) << config->family();
    EXPECT_LT(3 * error, relative_gradient_error(bf16, exact, 1)) << config->family();
    EXPECT_LE(error, relative_gradient_error(plain, exact, 1)) << config->family();
  }
}

TEST(Models, AnF16GradientThatOverflowsIsNotFinite) {
  TinyModel model(llama(), Recompute::kNone, DType::kF16);
  const float loss = model.train_pass(some_tokens(48, 61), 2, 0, 0x1p40f);
  EXPECT_TRUE(std::isfinite(loss));
  bool finite = true;
  for (const Bucket& bucket : model.store().buckets()) finite = finite && all_finite(model.runtime(), bucket.grad);
  EXPECT_FALSE(finite);
}

TEST(Gpt2, DropsOutByStepAndOnlyInTraining) {
  Gpt2Config c = gpt2();
  TinyModel plain(c);
  c.dropout = 0.3f;
  TinyModel dropping(c);
  const std::vector<int32_t> tokens = some_tokens(24, 61);
  const float without = plain.train_pass(tokens, 1), first = dropping.train_pass(tokens, 1, 1);
  EXPECT_NE(first, without);
  EXPECT_NE(first, dropping.train_pass(tokens, 1, 2));
  EXPECT_EQ(first, dropping.train_pass(tokens, 1, 1));
  std::vector<int32_t> ids = tokens;
  ForwardContext a = plain.context(1, 24), b = dropping.context(1, 24);
  const Tensor x = plain.model().logits(a, Tensor::wrap(ids.data(), {24}, DType::kI32));
  const Tensor y = dropping.model().logits(b, Tensor::wrap(ids.data(), {24}, DType::kI32));
  for (int64_t i = 0; i < 24; ++i) EXPECT_EQ(x.data<float>()[i * x.ld()], y.data<float>()[i * y.ld()]);
}

// Each with the caches that generation may use.
std::vector<std::pair<std::unique_ptr<ModelConfig>, bool>> with_every_cache(
    std::vector<std::unique_ptr<ModelConfig>> configs) {
  std::vector<std::pair<std::unique_ptr<ModelConfig>, bool>> both;
  for (auto& config : configs) {
    if (dynamic_cast<LatentDecoderConfig*>(config.get())) both.emplace_back(config->clone(), true);
    both.emplace_back(std::move(config), false);
  }
  return both;
}

TEST(Models, CachedDecodingGivesTheLogitsOfTheWholeSequence) {
  constexpr int64_t kCount = 2, kLength = 13, kPrompt = 6;
  for (const auto& [config, latent] : with_every_cache(every_family())) {
    TinyModel tiny(*config);
    std::vector<int32_t> tokens = some_tokens(kCount * kLength, 61);
    ForwardContext whole = tiny.context(kCount, kLength);
    const Tensor expected = tiny.model().logits(whole, Tensor::wrap(tokens.data(), {kCount * kLength}, DType::kI32));
    const ModelShape& shape = tiny.model().shape();
    KeyValueCache cache(tiny.runtime(), static_cast<int>(shape.layers), kCount, kLength, cache_shape(shape, latent),
                        DType::kF32);
    for (int64_t begin = 0; begin < kLength;) {
      const int64_t n = begin == 0 ? kPrompt : 1;
      std::vector<int32_t> part;
      for (int64_t s = 0; s < kCount; ++s)
        for (int64_t i = 0; i < n; ++i) part.push_back(tokens[static_cast<size_t>(s * kLength + begin + i)]);
      ForwardContext context = tiny.context(kCount, n, begin);
      context.cache = &cache;
      const Tensor got = tiny.model().logits(context, Tensor::wrap(part.data(), {kCount * n}, DType::kI32));
      cache.advance(n);
      for (int64_t s = 0; s < kCount; ++s)
        for (int64_t i = 0; i < n; ++i)
          for (int64_t v = 0; v < 61; ++v)
            ASSERT_NEAR(got.data<float>()[(s * n + i) * got.ld() + v],
                        expected.data<float>()[(s * kLength + begin + i) * expected.ld() + v], 1e-5)
                << config->family() << " token " << begin + i;
      begin += n;
    }
  }
}

}  // namespace
}  // namespace deepflow
