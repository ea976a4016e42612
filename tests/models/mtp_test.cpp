#include "models/parts/mtp.h"

#include "tests/models/model_fixture.h"
#include "tests/models/mtp_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace deepflow {
namespace {

using testing::MtpConfig;
using testing::some_tokens;
using testing::TinyModel;

constexpr int64_t kVocabulary = 61, kLength = 20, kWidth = 32;

void set_extents(DecoderConfig& c, int64_t layers, bool tied) {
  c.layers = layers, c.width = kWidth, c.heads = 4, c.kv_heads = 2, c.head_dim = 12, c.ffn = 48;
  c.tie_embeddings = tied, c.init_std = 0.2f;
  c.fill_in(kVocabulary, kLength);
}

MtpConfig with_mtp(bool tied = false) {
  MtpConfig c;
  set_extents(c, 2, tied);
  return c;
}

std::vector<float> master(TinyModel& m, const std::string& name) {
  const Tensor t = m.store().master(*m.registry().find(name));
  return {t.data<float>(), t.data<float>() + t.num_elements()};
}

void set_master(TinyModel& m, const std::string& name, const std::vector<float>& values) {
  Tensor t = m.store().master(*m.registry().find(name));
  ASSERT_EQ(t.num_elements(), static_cast<int64_t>(values.size())) << name;
  std::copy(values.begin(), values.end(), t.data<float>());
}

// Gains that are not all one, so that it matters whose they are.
void spread_gains(TinyModel& m) {
  for (Parameter& p : m.registry().parameters()) {
    if (p.spec.role != Role::kNorm) continue;
    std::vector<float> gains = master(m, p.spec.name);
    for (size_t i = 0; i < gains.size(); ++i)
      gains[i] = 1 + 0.3f * random_normal(random_site(5, p.spec.name), 0, static_cast<int64_t>(i));
    set_master(m, p.spec.name, gains);
  }
  m.store().state_written();
}

std::vector<double> rms_normed(const float* x, const std::vector<float>& gain, double eps) {
  double squares = 0;
  for (int64_t i = 0; i < kWidth; ++i) squares += double{x[i]} * double{x[i]};
  std::vector<double> y;
  for (int64_t i = 0; i < kWidth; ++i)
    y.push_back(double{x[i]} / std::sqrt(squares / kWidth + eps) * double{gain[static_cast<size_t>(i)]});
  return y;
}

// W [RMSNorm(Emb(next)); RMSNorm(h)] of the report, by its formula.
std::vector<float> entering(TinyModel& m, const Tensor& hidden, const std::vector<int32_t>& next, double eps) {
  const std::vector<float> table = master(m, "embedding.weight"), w = master(m, "mtp.projection.weight");
  const std::vector<float> of_embedding = master(m, "mtp.embedding_norm.weight");
  const std::vector<float> of_hidden = master(m, "mtp.hidden_norm.weight");
  std::vector<float> rows;
  for (size_t i = 0; i < next.size(); ++i) {
    std::vector<double> both = rms_normed(table.data() + next[i] * kWidth, of_embedding, eps);
    const std::vector<double> second = rms_normed(hidden.data<float>() + i * kWidth, of_hidden, eps);
    both.insert(both.end(), second.begin(), second.end());
    for (int64_t o = 0; o < kWidth; ++o) {
      double sum = 0;
      for (size_t k = 0; k < both.size(); ++k) sum += both[k] * double{w[static_cast<size_t>(o) * both.size() + k]};
      rows.push_back(static_cast<float>(sum));
    }
  }
  return rows;
}

std::vector<int32_t> shifted(std::vector<int32_t> tokens) {
  std::rotate(tokens.begin(), tokens.begin() + 1, tokens.end());
  return tokens;
}

// A Llama of one layer whose embedding gives the rows that enter the module's block goes the rest of the way.
TEST(Mtp, IsTheFormulaThenOneBlockANormAndTheModelsHead) {
  for (const bool tied : {false, true}) {
    const MtpConfig config = with_mtp(tied);
    TinyModel m(config);
    spread_gains(m);
    std::vector<int32_t> tokens = some_tokens(kLength, kVocabulary), next = shifted(tokens);
    ForwardContext context = m.context(1, kLength);
    const Var hidden = m.model().hidden(context, Tensor::wrap(tokens.data(), {kLength}, DType::kI32));
    const Var ahead = m.model().hidden_ahead(context, hidden, Tensor::wrap(next.data(), {kLength}, DType::kI32));
    const Tensor logits = m.model().logits_of(context, ahead.value);

    LlamaConfig rest;
    set_extents(rest, 1, false);
    TinyModel reference(rest);
    for (const Parameter& p : reference.registry().parameters()) {
      std::string name = p.spec.name;
      if (name.starts_with("layers.0.")) name.replace(0, 9, "layers.2.");
      if (name == "norm.weight") name = "mtp.norm.weight";
      if (name == "head.weight" && tied) name = "embedding.weight";
      set_master(reference, p.spec.name, master(m, name));
    }
    std::vector<float> table = entering(m, hidden.value, next, double{config.norm_eps});
    table.resize(kVocabulary * kWidth, 0);
    set_master(reference, "embedding.weight", table);
    reference.store().state_written();
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < kLength; ++i) rows.push_back(i);
    ForwardContext plain = reference.context(1, kLength);
    const Tensor expected = reference.model().logits(plain, Tensor::wrap(rows.data(), {kLength}, DType::kI32));
    double most = 0;
    for (int64_t r = 0; r < kLength; ++r)
      for (int64_t v = 0; v < kVocabulary; ++v) {
        const float e = expected.data<float>()[r * expected.ld() + v];
        most = std::max(most, std::abs(double{e}));
        ASSERT_NEAR(logits.data<float>()[r * logits.ld() + v], e, 2e-5) << r << " " << v;
      }
    EXPECT_GT(most, 0.5);
  }
}

// Along a random direction of each parameter, difference quotients of the main loss and lambda times the module's.
TEST(Mtp, GradientsAreThoseOfBothLosses) {
  for (const bool tied : {false, true}) {
    TinyModel m(with_mtp(tied));
    const std::vector<int32_t> tokens = some_tokens(2 * kLength, kVocabulary);
    for (const Parameter& p : m.registry().parameters()) {
      const std::string& name = p.spec.name;
      m.train_pass(tokens, 2);
      const std::vector<float> gradient = m.gradient(name), values = master(m, name);
      std::vector<float> direction;
      double expected = 0, norm = 0;
      for (size_t i = 0; i < gradient.size(); ++i) {
        // Mostly along the gradient, so that the quotient is well above the rounding of the loss.
        direction.push_back(gradient[i] * (1 + 0.5f * random_normal(random_site(9, name), 0, static_cast<int64_t>(i))));
        norm += double{direction[i]} * double{direction[i]};
      }
      ASSERT_GT(norm, 0) << name;
      const auto scale = static_cast<float>(0.02 / std::sqrt(norm));
      for (size_t i = 0; i < gradient.size(); ++i) {
        direction[i] *= scale;
        expected += 2 * double{direction[i]} * double{gradient[i]};
      }
      double losses[2];
      for (const int side : {0, 1}) {
        std::vector<float> moved = values;
        for (size_t i = 0; i < moved.size(); ++i) moved[i] += (side == 0 ? -1 : 1) * direction[i];
        set_master(m, name, moved);
        m.store().state_written();
        losses[side] = double{m.train_pass(tokens, 2)};
      }
      set_master(m, name, values);
      m.store().state_written();
      EXPECT_NEAR(losses[1] - losses[0], expected, 0.01 * std::abs(expected) + 2e-6) << name << " tied " << tied;
    }
  }
}

TEST(Mtp, LeavesTheMainModelAsItIs) {
  LlamaConfig plain;
  set_extents(plain, 2, false);
  TinyModel with(with_mtp()), without(plain);
  const std::vector<int32_t> tokens = some_tokens(kLength, kVocabulary);
  ForwardContext a = with.context(1, kLength), b = without.context(1, kLength);
  const Tensor ids = Tensor::wrap(const_cast<int32_t*>(tokens.data()), {kLength}, DType::kI32);
  const Tensor x = with.model().logits(a, ids), y = without.model().logits(b, ids);
  for (int64_t i = 0; i < x.ld() * (kLength - 1) + kVocabulary; ++i) ASSERT_EQ(x.data<float>()[i], y.data<float>()[i]);
}

TEST(Mtp, IsReadInTheLastChunk) {
  for (const bool tied : {false, true}) {
    Runtime runtime{{.threads = 1}};
    ParameterRegistry registry;
    const auto model = with_mtp(tied).build(runtime, registry, Recompute::kNone);
    ModelLayout layout;
    layout.chunks = {{0, 1}, {1, 2}};
    model->parallelize(registry, layout);
    const auto chunks = [&](const char* name) { return registry.find(name)->spec.chunks; };
    using Chunks = std::vector<int>;
    EXPECT_EQ(chunks("embedding.weight"), tied ? (Chunks{0, 1, 1, 1}) : (Chunks{0, 1}));
    if (!tied) {
      EXPECT_EQ(chunks("head.weight"), (Chunks{1, 1}));
    }
    for (const char* name : {"mtp.embedding_norm.weight", "mtp.hidden_norm.weight", "mtp.projection.weight",
                             "layers.2.attention.q.weight", "layers.2.mlp.down.weight", "mtp.norm.weight"})
      EXPECT_EQ(chunks(name), Chunks{1}) << name;
    EXPECT_EQ(chunks("layers.0.attention.q.weight"), Chunks{0});
  }
}

TEST(Mtp, CountsAsALayerAnotherHeadAndItsProjection) {
  MtpConfig c = with_mtp();
  LlamaConfig plain;
  set_extents(plain, 2, false);
  TinyModel with(c), without(plain);
  const auto flops = [](TinyModel& m) { return training_flops_per_token(m.model().shape(), m.registry(), kLength); };
  const double layer = 2 * 32 * 48 + 2 * 32 * 24 + 3 * 32 * 48 + 2 * 32;  // attention, MLP and norms
  const double own = 2 * kWidth * kWidth + 3 * kWidth;
  EXPECT_DOUBLE_EQ(flops(with) - flops(without), 6 * (layer + own + kVocabulary * kWidth) + 12 * 4 * 12 * kLength);
  c.tie_embeddings = true;
  TinyModel tied(c);
  EXPECT_EQ(flops(tied), flops(with));

  const LayerCosts a = layer_costs(with.model().shape(), kLength), b = layer_costs(without.model().shape(), kLength);
  EXPECT_EQ(a.layer, b.layer);
  EXPECT_DOUBLE_EQ(a.head, 2 * b.head + b.layer + b.embedding + 2 * kWidth * kWidth);
}

TEST(Mtp, IsCalledAsInThePublicFiles) {
  TinyModel m(with_mtp());
  const ForeignNames names = m.model().hugging_face_names();
  std::set<std::string> ours, theirs;
  for (const NameMapEntry& entry : names.map) {
    EXPECT_TRUE(theirs.insert(entry.external).second) << entry.external;
    ours.insert(entry.logical.begin(), entry.logical.end());
  }
  for (const Parameter& p : m.registry().parameters()) EXPECT_EQ(ours.count(p.spec.name), 1u) << p.spec.name;
  EXPECT_EQ(ours.size(), m.registry().parameters().size());
  for (const char* name : {"enorm", "hnorm", "eh_proj", "shared_head.norm", "self_attn.q_proj", "mlp.down_proj"})
    EXPECT_EQ(theirs.count(std::string("model.layers.2.") + name + ".weight"), 1u) << name;
  EXPECT_THAT(names.ignored,
              ::testing::IsSupersetOf({"layers.2.embed_tokens.weight", "layers.2.shared_head.head.weight"}));
}

}  // namespace
}  // namespace deepflow
