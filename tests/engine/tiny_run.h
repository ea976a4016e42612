#pragma once

#include "core/random.h"
#include "engine/session.h"
#include "engine/trainer.h"
#include "models/deepseek_v2/config.h"
#include "models/deepseek_v3/config.h"
#include "models/gemma2/config.h"
#include "models/gpt2/config.h"
#include "models/llama/config.h"
#include "models/mixtral/config.h"
#include "models/qwen2/config.h"
#include "models/qwen3/config.h"
#include "parallel/self_communicator.h"
#include "tests/models/mtp_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace deepflow::testing {

inline constexpr int64_t kVocabulary = 257;  // bytes and an end token
inline constexpr int32_t kEndToken = 256;

// Tokens in memory behind the interface of the stores on disk.
class MemoryStore final : public TokenStore {
 public:
  MemoryStore(std::vector<int32_t> tokens, std::vector<int64_t> document_offsets)
      : TokenStore("memory"), tokens_(std::move(tokens)) {
    num_tokens_ = static_cast<int64_t>(tokens_.size());
    vocabulary_size_ = kVocabulary;
    source_bytes_ = num_tokens_ - static_cast<int64_t>(document_offsets.size()) + 1;
    document_offsets_ = std::move(document_offsets);
    digest_ = std::string(32, '0');
  }
  const char* format() const override { return "memory"; }

 private:
  void read_tokens(int64_t first, std::span<int32_t> out) const override {
    std::copy_n(tokens_.begin() + first, out.size(), out.begin());
  }
  std::vector<int32_t> tokens_;
};

// Documents of some sentences out of a few words, each with an end token.
inline std::shared_ptr<const TokenStore> some_text(int64_t documents) {
  const char* const words[] = {"ocean ", "wind ", "a ", "carries ", "the ", "salt. ", "ship ", "slowly "};
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets{0};
  const RandomSite site = random_site(7, "text");
  for (int64_t d = 0; d < documents; ++d) {
    const auto length = 5 + static_cast<int64_t>(random_uniform(site, d, 0) * 20);
    for (int64_t w = 1; w <= length; ++w)
      for (const char* c = words[static_cast<size_t>(random_uniform(site, d, w) * 8)]; *c; ++c)
        tokens.push_back(static_cast<uint8_t>(*c));
    tokens.push_back(kEndToken);
    offsets.push_back(static_cast<int64_t>(tokens.size()));
  }
  return std::make_shared<MemoryStore>(std::move(tokens), std::move(offsets));
}

// Every token is a document of its own, so that there is nothing to predict.
inline std::shared_ptr<const TokenStore> lonely_tokens() {
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i <= 400; ++i) offsets.push_back(i);
  return std::make_shared<MemoryStore>(std::vector<int32_t>(400, 65), std::move(offsets));
}

struct TinyOptions {
  std::string family = "llama";
  int64_t layers = 2, width = 32, heads = 4, kv_heads = 2, ffn = 64;
  int64_t head_dim = 0;  // all but gpt2; 0: width / heads
  int64_t window = 0;    // of some layers of qwen2, qwen3 and gemma2; 0: none
  bool tied = false;
  bool attention_bias = false, mlp_bias = false;  // llama; attention_bias: qwen3 as well
  Documents documents = Documents::kSeparate;
  float dropout = 0;                        // gpt2 only
  int64_t experts = 6, expert_choices = 2;  // of families with experts, as is the next
  // Of deepseek_v2 and deepseek_v3.
  int64_t query_rank = 0, latent_rank = 20, nope_dim = 8, rope_dim = 4, value_dim = 6;
  int64_t dense_layers = 1, shared_experts = 1, router_groups = 1, router_top_groups = 1;
  ExpertBalance balance{.loss = 0.05, .z_loss = 0.01, .bias_rate = 0.01};
  float init_std = 0.02f;
  Recompute recompute = Recompute::kNone;
  std::shared_ptr<const TokenStore> text = some_text(60);
  int64_t sequence = 24;
  TrainOptions train;
  OptimOptions optim;
  ParallelOptions parallel;
  uint64_t initial_seed = 3;

  TinyOptions() {
    train.steps = 40;
    train.global_batch = 8;
    train.precision = "f32";
    train.threads = 1;
    train.bucket_elements = 4096;  // several buckets
    optim.lr = 5e-3;
    optim.warmup = 5;
  }
};

inline void set_latent(LatentDecoderConfig& c, const TinyOptions& o) {
  c.query_rank = o.query_rank, c.latent_rank = o.latent_rank;
  c.nope_dim = o.nope_dim, c.rope_dim = o.rope_dim, c.value_dim = o.value_dim;
  c.attention_bias = o.attention_bias;
  c.dense_layers = o.dense_layers, c.shared_experts = o.shared_experts;
  c.router_groups = o.router_groups, c.router_top_groups = o.router_top_groups;
}

inline void set_decoder(DecoderConfig& c, const TinyOptions& o) {
  c.layers = o.layers, c.width = o.width, c.heads = o.heads, c.kv_heads = o.kv_heads, c.head_dim = o.head_dim;
  c.ffn = o.ffn, c.tie_embeddings = o.tied, c.init_std = o.init_std;
  if (auto* moe = dynamic_cast<MoeDecoderConfig*>(&c))
    moe->experts = o.experts, moe->expert_choices = o.expert_choices, moe->balance = o.balance;
  if (auto* latent = dynamic_cast<LatentDecoderConfig*>(&c)) set_latent(*latent, o);
  if (auto* llama = dynamic_cast<LlamaConfig*>(&c)) {
    llama->attention_bias = o.attention_bias, llama->mlp_bias = o.mlp_bias;
  } else if (auto* qwen2 = dynamic_cast<Qwen2Config*>(&c)) {
    qwen2->window = {o.window, 1};
  } else if (auto* qwen3 = dynamic_cast<Qwen3Config*>(&c)) {
    qwen3->window = {o.window, 1}, qwen3->attention_bias = o.attention_bias;
  } else if (auto* gemma2 = dynamic_cast<Gemma2Config*>(&c)) {
    gemma2->sliding_window = o.window;
    gemma2->attention_softcap = 2, gemma2->logit_softcap = 3;  // low, so that they matter
  }
}

inline ModelOptions tiny_model(const TinyOptions& o) {
  ModelOptions model;
  model.family = o.family;
  model.recompute = o.recompute;
  if (o.family.starts_with("mtp")) {
    auto config = std::make_unique<MtpConfig>();
    if (o.family == "mtp_moe") config->experts = o.experts, config->expert_choices = o.expert_choices;
    config->balance = o.balance;
    model.set_config(std::move(config));
  }
  if (auto* gpt2 = dynamic_cast<Gpt2Config*>(&model.config())) {
    gpt2->layers = o.layers, gpt2->width = o.width, gpt2->heads = o.heads, gpt2->ffn = o.ffn;
    gpt2->dropout = o.dropout, gpt2->tie_embeddings = o.tied, gpt2->init_std = o.init_std;
  } else {
    set_decoder(dynamic_cast<DecoderConfig&>(model.config()), o);
  }
  model.fill_in(kVocabulary, 4 * o.sequence, nullptr);
  return model;
}

// A model, its data and its trainer, as deepflow train wires them, without files.
class TinyRun {
 public:
  explicit TinyRun(const TinyOptions& o, Communicator* comm = nullptr)
      : own_(comm ? nullptr : make_self_communicator("tiny run")),
        comm_(comm ? *comm : *own_),
        mesh_(comm_, layout_of(o.parallel, comm_.size())),
        session_(tiny_model(o), session_options(o), mesh_, o.parallel, o.sequence),
        loader_(std::make_shared<SampleSource>(std::vector<WeightedStore>{{o.text, 1}},
                                               SampleOptions{o.sequence, o.documents, true, 5}),
                {o.train.global_batch, mesh_.along(kDataAxes).rank(), mesh_.along(kDataAxes).size(), 2}) {
    session_.store().initialise(o.initial_seed);
    trainer_ = std::make_unique<Trainer>(session_.machine(), o.train, o.optim, o.parallel, loader_);
  }

  Session& session() { return session_; }
  Trainer& trainer() { return *trainer_; }
  Loader& loader() { return loader_; }

  std::vector<StepReport> train(int steps) {
    std::vector<StepReport> reports;
    for (int i = 0; i < steps; ++i) reports.push_back(trainer_->step());
    return reports;
  }
  // Losses and gradient norms of the next steps, with multi-token prediction its losses as well.
  std::vector<double> curve(int steps) {
    std::vector<double> values;
    for (const StepReport& r : train(steps)) {
      values.insert(values.end(), {r.loss, r.gradient_norm});
      if (r.mtp_loss) values.push_back(*r.mtp_loss);
    }
    return values;
  }
  std::vector<float> masters() {
    session_.store().wait_for_masters(session_.machine().stream);
    std::vector<float> values;
    for (const Parameter& p : session_.registry().parameters()) {
      const Tensor t = session_.store().master(p);
      values.insert(values.end(), t.data<float>(), t.data<float>() + t.num_elements());
    }
    return values;
  }
  void poison(const std::string& parameter) {
    session_.store().wait_for_masters(session_.machine().stream);
    session_.store().master(*session_.registry().find(parameter)).data<float>()[5] = NAN;
    session_.store().state_written();
  }

 private:
  static SessionOptions session_options(const TinyOptions& o) {
    SessionOptions s;
    s.precision = o.train.precision;
    s.threads = o.train.threads;
    s.weight_forms = o.train.weight_forms;
    s.bucket_elements = o.train.bucket_elements;
    s.training = TrainingMemory{o.train, o.sequence, o.optim};
    s.unit = find_optimizer(o.optim.name).unit;
    return s;
  }

  std::unique_ptr<Communicator> own_;
  Communicator& comm_;
  Mesh mesh_;
  Session session_;
  Loader loader_;
  std::unique_ptr<Trainer> trainer_;
};

// What a checkpoint would keep of a run.
struct SavedEntry {
  StateEntry entry;  // without the value
  DType dtype;
  std::vector<char> bytes;
};
inline std::vector<SavedEntry> save_state(StateOwner& owner) {
  std::vector<SavedEntry> saved;
  owner.visit_state([&](StateEntry& e) {
    const char* begin = static_cast<const char*>(e.value.raw());
    saved.push_back({e, e.value.dtype(), {begin, begin + e.value.num_bytes()}});
    saved.back().entry.value = {};
  });
  return saved;
}
// Entries whose name begins with `except` stay as they are ("": nothing does).
inline void load_state(StateOwner& owner, const std::vector<SavedEntry>& saved, const std::string& except = "") {
  size_t next = 0;
  owner.visit_state([&](StateEntry& e) {
    ASSERT_LT(next, saved.size());
    const SavedEntry& s = saved[next++];
    ASSERT_EQ(e.name, s.entry.name);
    ASSERT_EQ(e.shape, s.entry.shape) << e.name;
    ASSERT_EQ(e.boxes, s.entry.boxes) << e.name;
    ASSERT_EQ(e.value.num_bytes(), s.bytes.size()) << e.name;
    if (except.empty() || !e.name.starts_with(except)) std::memcpy(e.value.raw(), s.bytes.data(), s.bytes.size());
  });
  ASSERT_EQ(next, saved.size());
  owner.state_written();
}

}  // namespace deepflow::testing
