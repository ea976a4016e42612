#include "tests/engine/random_layout.h"

#include "parallel/schedule_registry.h"
#include "tests/engine/dice.h"

#include <fmt/ranges.h>

#include <filesystem>

namespace deepflow::testing {

bool deals_or_repeats(int64_t units, int64_t ranks) { return units % ranks == 0 || ranks % units == 0; }
bool has_experts(const TinyOptions& o) {
  return o.family == "mixtral" || o.family == "mtp_moe" || o.family.starts_with("deepseek");
}

namespace {

constexpr int64_t kMostWork = 8000;  // layers x rows of a step, so that a case is a matter of seconds

std::vector<int> divisors(int64_t n) {
  std::vector<int> d;
  for (int i = 1; i <= n; ++i)
    if (n % i == 0) d.push_back(i);
  return d;
}

// Axes that multiply to the ranks, which are a power of two.
void draw_axes(Dice& dice, ParallelOptions& p, int ranks) {
  p.dp = 1;
  for (int left = ranks; left > 1; left /= 2) *dice.one_of<int*>({&p.dp, &p.tp, &p.cp, &p.pp}) *= 2;
  p.shard = dice.one_of(divisors(p.dp));
  p.sp = dice.coin();
  p.tp_overlap = dice.coin();
  p.zero = static_cast<int>(dice.below(4));
  if (p.pp == 1) return;
  p.schedule = dice.one_of(schedule_names());
  const ScheduleKind& kind = schedule_kind(p.schedule);
  p.vp = kind.max_chunks == 0 ? static_cast<int>(1 + dice.below(3)) : kind.max_chunks;
}

// Whole experts or parts of them on each of some ranks of a pipeline stage.
void draw_experts(Dice& dice, TinyOptions& o) {
  ParallelOptions& p = o.parallel;
  o.experts = dice.one_of<int64_t>({2, 5, 8});
  const int ranks = p.dp * p.cp * p.tp;
  p.ep = dice.one_that<int>(divisors(ranks), [&](int n) { return o.experts % n == 0; });
  p.etp = dice.one_that<int>(divisors(ranks / p.ep), [&](int n) { return n <= 4; });
  o.expert_choices = 1 + dice.below(2);
  o.balance.loss = dice.coin() ? 0.05 : 0;
  o.balance.z_loss = dice.coin() ? 0.01 : 0;
  o.balance.bias_rate = dice.coin() ? 0.01 : 0;
  o.balance.capacity = dice.coin() ? 1.25 : 0;
}

bool has_latent_attention(const TinyOptions& o) { return o.family.starts_with("deepseek"); }

void draw_latent_attention(Dice& dice, TinyOptions& o) {
  o.query_rank = dice.one_of<int64_t>({0, 12});
  o.latent_rank = dice.one_of<int64_t>({16, 20});
  o.value_dim = dice.one_of<int64_t>({6, 12, 16});
  o.attention_bias = dice.coin();
  o.dense_layers = dice.below(2);
  o.shared_experts = dice.below(3);
  if (o.experts == 8) o.router_groups = 4, o.router_top_groups = 2;
}

void draw_model(Dice& dice, TinyOptions& o) {
  ParallelOptions& p = o.parallel;
  o.family =
      dice.one_of<std::string>({"llama", "gpt2", "qwen2", "qwen3", "gemma2", "mixtral", "deepseek_v2", "deepseek_v3"});
  o.heads = dice.one_that<int64_t>({4, 6, 8, 12}, [&](int64_t n) { return n % p.tp == 0; });
  const int64_t heads_of_rank = o.heads / p.tp;
  p.cp_method = dice.coin() && heads_of_rank % p.cp == 0 ? ContextMethod::kUlysses : ContextMethod::kRing;
  o.kv_heads = o.heads;
  if (o.family != "gpt2") {
    o.kv_heads = dice.one_that<int64_t>({1, 2, 3, 4, 6, o.heads}, [&](int64_t n) {
      const int64_t of_rank = std::max<int64_t>(1, n / p.tp);
      return o.heads % n == 0 && deals_or_repeats(n, p.tp) &&
             (p.cp_method == ContextMethod::kRing || deals_or_repeats(of_rank, p.cp));
    });
    o.attention_bias = dice.coin() && (o.family == "llama" || o.family == "qwen3");
    o.mlp_bias = dice.coin() && o.family == "llama";
    o.head_dim = dice.one_of<int64_t>({8, 12});
    if (o.family != "llama" && !has_experts(o)) o.window = dice.one_of<int64_t>({0, 3, 17});
  } else {
    o.dropout = dice.coin() ? 0.1f : 0.0f;
  }
  if (has_experts(o)) draw_experts(dice, o);
  if (has_latent_attention(o)) draw_latent_attention(dice, o);
  o.width = o.heads * 8;
  o.ffn = dice.one_that<int64_t>({36, 64, 72, 96}, [&](int64_t n) { return n % p.tp == 0; });
  o.tied = dice.coin();
  o.recompute = dice.one_of<Recompute>({Recompute::kNone, Recompute::kSelective, Recompute::kFull});
  o.documents = dice.coin() ? Documents::kSeparate : Documents::kJoined;
}

// Split into chunks by the recipe itself, one time in two.
void draw_layers(Dice& dice, TinyOptions& o) {
  ParallelOptions& p = o.parallel;
  const int64_t chunks = int64_t{p.pp} * std::max(1, p.vp);
  o.layers = chunks + dice.below(3) + (chunks == 1 ? 1 : 0);
  if (p.pp == 1 || dice.coin()) return;
  p.layers.assign(static_cast<size_t>(chunks), 1);
  for (int64_t left = o.layers - chunks; left > 0; --left) ++p.layers[static_cast<size_t>(dice.below(chunks))];
}

// Sequences that context parallelism can cut, some of them with rows that tp does not divide; steps of fewer
// micro-batches than there are stages, of as many, of numbers that are no multiple.
void draw_data(Dice& dice, TinyOptions& o) {
  const ParallelOptions& p = o.parallel;
  const int64_t pieces = p.cp == 1 ? 1 : p.cp_method == ContextMethod::kRing ? 2 * p.cp : p.cp;
  const auto cut = [&](int64_t rows) { return (rows + pieces - 1) / pieces * pieces; };
  o.sequence = cut(dice.one_of<int64_t>({1, 5, 16, 21, 32, 40, 48}));
  const int64_t pp = p.pp;
  const int64_t passes = dice.one_of<int64_t>({1, std::max<int64_t>(1, pp - 1), pp, pp + 1, 2 * pp, 2 * pp + 1});
  int64_t micro_batch = 1 + dice.below(3);
  const auto is_too_much = [&] { return o.layers * p.dp * passes * micro_batch * o.sequence > kMostWork; };
  while (is_too_much() && micro_batch > 1) --micro_batch;
  while (is_too_much() && o.sequence > cut(5)) o.sequence -= pieces;
  o.train.global_batch = p.dp * passes * micro_batch;
  if (dice.below(4) > 0) o.train.micro_batch = micro_batch;
}

void draw_optimizer(Dice& dice, TinyOptions& o) {
  o.optim.block = o.parallel.tp == 1 ? 64 : 8;
  // Not adamw8bit: where two orders of a sum round a moment to neighbouring codes, curves part by some 5e-5.
  o.optim.name = dice.one_of<std::string>({"adamw", "sgd", "lion", "muon", "adafactor"});
  o.optim.muon.nesterov = dice.coin();
  o.optim.muon.scale = dice.coin() ? "moonlight" : "jordan";
  o.optim.adafactor.relative_step = dice.coin();
}

void draw_training(Dice& dice, TinyOptions& o) {
  o.train.bucket_elements = dice.one_of<int64_t>({1024, 4096, 1 << 20});
  o.train.weight_forms = dice.one_of<std::string>({"auto", "all", "forward"});
  if (dice.below(4) == 0) o.train.offload_optimizer = std::filesystem::temp_directory_path().string();
  draw_optimizer(dice, o);
  // Tame, so that two orders of the same sums stay together for 20 steps. Rows of a small norm (weights of 0.02) and
  // elements that AdamW moves by their sign (small eps) are badly conditioned: one rank alone is then up to 1.2e-4 from
  // itself with other micro-batches.
  o.init_std = 0.1f;
  o.optim.eps = 1e-6;
  o.optim.lr = o.optim.name == "sgd" ? 0.01 : o.optim.name == "lion" ? 3e-5 : 1e-3;
  o.optim.nesterov = dice.coin();
  o.optim.clip = dice.one_of<double>({0, 0.1, 1});
}

}  // namespace

std::string text_of(const TinyOptions& o) {
  const ParallelOptions& p = o.parallel;
  std::string text = fmt::format("{} layers {} heads {}/{} ffn {}", o.family, o.layers, o.heads, o.kv_heads, o.ffn);
  const auto add = [&](bool condition, const std::string& more) {
    if (condition) text += " " + more;
  };
  add(o.head_dim > 0, fmt::format("head_dim {}", o.head_dim));
  add(o.window > 0, fmt::format("window {}", o.window));
  add(o.attention_bias, "attention_bias");
  add(o.mlp_bias, "mlp_bias");
  add(o.tied, "tied");
  if (has_latent_attention(o))
    text += fmt::format(" ranks {}/{} value_dim {} {} dense layers {} shared experts groups {}", o.query_rank,
                        o.latent_rank, o.value_dim, o.dense_layers, o.shared_experts, o.router_groups);
  if (has_experts(o))
    text += fmt::format(" {} of {} experts, balance {} z {} bias {} capacity {}", o.expert_choices, o.experts,
                        o.balance.loss, o.balance.z_loss, o.balance.bias_rate, o.balance.capacity);
  add(o.dropout > 0, fmt::format("dropout {}", o.dropout));
  add(true, fmt::format("T {} {}", o.sequence, o.documents == Documents::kSeparate ? "documents" : "joined"));
  add(o.recompute != Recompute::kNone, o.recompute == Recompute::kFull ? "full" : "selective");
  add(true, fmt::format("| dp {} (shard {}) zero {}", p.dp, p.shard, p.zero));
  add(p.tp > 1, fmt::format("tp {}{}{}", p.tp, p.sp ? " sp" : "", p.sp && p.tp_overlap ? " overlap" : ""));
  add(p.cp > 1, fmt::format("cp {} {}", p.cp, p.cp_method == ContextMethod::kRing ? "ring" : "ulysses"));
  add(p.ep * p.etp > 1, fmt::format("ep {} etp {}", p.ep, p.etp));
  add(p.pp > 1, fmt::format("pp {} vp {} {}", p.pp, p.vp, p.schedule));
  add(!p.layers.empty(), fmt::format("layers [{}]", fmt::join(p.layers, ",")));
  add(true, fmt::format("| batch {} micro {}", o.train.global_batch,
                        o.train.micro_batch ? fmt::format("{}", *o.train.micro_batch) : "auto"));
  add(true, fmt::format("{} clip {} forms {} bucket {}", o.optim.name, o.optim.clip, o.train.weight_forms,
                        o.train.bucket_elements));
  add(!o.train.offload_optimizer.empty(), "offload");
  return text;
}

LayoutCase draw_layout(uint64_t seed, int64_t index, int num_ranks) {
  Dice dice(seed, "layouts", index, num_ranks);
  LayoutCase c;
  draw_axes(dice, c.options.parallel, num_ranks);
  draw_model(dice, c.options);
  draw_layers(dice, c.options);
  draw_data(dice, c.options);
  draw_training(dice, c.options);
  c.text = text_of(c.options);
  return c;
}

}  // namespace deepflow::testing
