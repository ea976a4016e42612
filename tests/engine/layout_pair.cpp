#include "tests/engine/layout_pair.h"

#include "tests/engine/dice.h"

#include <algorithm>
#include <numeric>

namespace deepflow::testing {
namespace {

constexpr int64_t kMostWork = 2000;     // layers x rows of a step: a pair trains three times
constexpr int64_t kNumbers = 1 << 20;   // of cases that a half of a pair is drawn from
constexpr int64_t kQuantisedBlock = 8;  // the smallest: larger ones do not fit the parts of so small matrices
constexpr int kQuantisedSteps = 3;

std::vector<int> powers_of_two_up_to(int n) {
  std::vector<int> powers;
  for (int i = 1; i <= n; i *= 2) powers.push_back(i);
  return powers;
}

int64_t chunks_of(const ParallelOptions& p) { return int64_t{p.pp} * std::max(1, p.vp); }
int64_t pieces_of(const ParallelOptions& p) {
  return p.cp == 1 ? 1 : p.cp_method == ContextMethod::kRing ? 2 * p.cp : p.cp;
}
int64_t next_multiple(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

// What a whole layout draws has no multi-token prediction and no 8-bit states.
void vary(Dice& dice, TinyOptions& o) {
  if (o.family == "llama" && dice.coin()) o.family = "mtp";
  if (o.family == "mixtral" && dice.coin()) o.family = "mtp_moe";
  if (dice.below(4) > 0) return;
  o.optim.name = "adamw8bit";
  o.optim.lr = 1e-3;
}

bool has_whole_blocks(const TinyOptions& o) {
  const ParallelOptions& p = o.parallel;
  const int64_t head_dim = o.family.starts_with("deepseek") ? o.value_dim : o.head_dim > 0 ? o.head_dim : 8;
  const auto fits = [](int64_t cols, int64_t parts) { return parts == 1 || cols / parts % kQuantisedBlock == 0; };
  return fits(o.heads * head_dim, p.tp) && fits(o.ffn, p.tp) && fits(o.ffn, p.etp);
}

bool can_split(const TinyOptions& o) {
  const ParallelOptions& p = o.parallel;
  if (o.heads % p.tp != 0 || o.ffn % p.tp != 0 || !deals_or_repeats(o.kv_heads, p.tp)) return false;
  if (p.cp > 1 && p.cp_method == ContextMethod::kUlysses) {
    const int64_t kv_heads = std::max<int64_t>(1, o.kv_heads / p.tp);
    if (o.heads / p.tp % p.cp != 0 || !deals_or_repeats(kv_heads, p.cp)) return false;
  }
  if (has_experts(o) && o.experts % p.ep != 0) return false;
  return o.optim.name != "adamw8bit" || has_whole_blocks(o);
}

// The model of one, and how the other splits and trains it.
TinyOptions on_layout_of(const TinyOptions& model, const TinyOptions& layout) {
  TinyOptions o = model;
  o.parallel = layout.parallel;
  if (!has_experts(o)) o.parallel.ep = o.parallel.etp = 1;
  o.recompute = layout.recompute;
  o.train.bucket_elements = layout.train.bucket_elements;
  o.train.weight_forms = layout.train.weight_forms;
  o.train.offload_optimizer = layout.train.offload_optimizer;
  return o;
}

void set_micro_batch(Dice& dice, TinyOptions& o) {
  o.train.micro_batch = std::nullopt;
  const int64_t of_rank = o.train.global_batch / o.parallel.dp;
  if (dice.below(4) > 0)
    o.train.micro_batch = dice.one_that<int64_t>({1, 2, 3}, [&](int64_t m) { return of_rank % m == 0; });
}

// Layers for all chunks of both, sequences that both can cut, batches for the ranks of both.
void make_room(Dice& dice, TinyOptions& a, TinyOptions& b) {
  const int64_t layers = std::max({a.layers, chunks_of(a.parallel), chunks_of(b.parallel)});
  const int64_t pieces = std::max(pieces_of(a.parallel), pieces_of(b.parallel));
  const int64_t ranks = std::max(a.parallel.dp, b.parallel.dp);
  int64_t sequence = next_multiple(std::max<int64_t>(a.sequence, 5), pieces);
  int64_t batch = next_multiple(a.train.global_batch, ranks);
  while (layers * batch * sequence > kMostWork && sequence > next_multiple(5, pieces)) sequence -= pieces;
  while (layers * batch * sequence > kMostWork && batch > ranks) batch -= ranks;
  for (TinyOptions* o : {&a, &b}) {
    o->layers = layers, o->sequence = sequence, o->train.global_batch = batch;
    std::vector<int>& split = o->parallel.layers;
    if (std::accumulate(split.begin(), split.end(), int64_t{0}) != layers) split.clear();
    set_micro_batch(dice, *o);
  }
}

void draw_steps(Dice& dice, LayoutPair& pair, int most_steps) {
  const int steps = pair.first.optim.name == "adamw8bit" ? std::min(most_steps, kQuantisedSteps) : most_steps;
  pair.steps_before = static_cast<int>(1 + dice.below(steps - 1));
  pair.steps_after = steps - pair.steps_before;
}

void draw_precision(Dice& dice, LayoutPair& pair) {
  if (dice.below(6) > 0) return;
  pair.first.train.precision = dice.coin() ? "f16" : "bf16";
  pair.second = pair.first;
  pair.second_ranks = pair.first_ranks;
}

void draw_checkpoint(Dice& dice, LayoutPair& pair) {
  pair.checkpoint.threads = static_cast<int>(1 + dice.below(3));
  pair.checkpoint.codec = dice.one_of<std::string>({"auto", "auto", "raw", "zstd", "planes"});
  pair.checkpoint.async = dice.below(4) > 0;
}

std::string text_of(const LayoutPair& pair) {
  const std::string first = text_of(pair.first), second = text_of(pair.second);
  const CheckpointOptions& c = pair.checkpoint;
  return fmt::format("{} {} steps on {} ranks: {} -> ({} x {}{}) {} steps on {} ranks: {}", pair.first.train.precision,
                     pair.steps_before, pair.first_ranks, first, c.threads, c.codec, c.async ? "" : " in step",
                     pair.steps_after, pair.second_ranks, second.substr(second.find('|')));
}

}  // namespace

LayoutPair draw_pair(uint64_t seed, int64_t index, int num_ranks, int most_steps) {
  Dice dice(seed, "pairs", index, num_ranks);
  LayoutPair pair;
  pair.first_ranks = pair.second_ranks = num_ranks;
  (dice.coin() ? pair.first_ranks : pair.second_ranks) = dice.one_of(powers_of_two_up_to(num_ranks));
  do {
    pair.first = draw_layout(seed, dice.below(kNumbers), pair.first_ranks).options;
    vary(dice, pair.first);
    pair.first.optim.block = kQuantisedBlock;
    pair.second = on_layout_of(pair.first, draw_layout(seed, dice.below(kNumbers), pair.second_ranks).options);
    ++pair.drawn;
  } while (!can_split(pair.first) || !can_split(pair.second));
  make_room(dice, pair.first, pair.second);
  draw_precision(dice, pair);
  draw_steps(dice, pair, most_steps);
  draw_checkpoint(dice, pair);
  pair.second.initial_seed = pair.first.initial_seed + 1;  // what is not loaded is seen
  pair.text = text_of(pair);
  return pair;
}

}  // namespace deepflow::testing
