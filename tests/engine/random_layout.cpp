#include "tests/engine/random_layout.h"

#include <fmt/ranges.h>

namespace deepflow::testing {
namespace {

class Dice {
 public:
  Dice(uint64_t seed, int64_t index) : site_(random_site(seed, "layouts")), index_(index) {}
  int64_t below(int64_t n) {
    return std::min<int64_t>(n - 1,
                             static_cast<int64_t>(random_uniform(site_, index_, throws_++) * static_cast<float>(n)));
  }
  bool coin() { return below(2) == 1; }
  template <class T>
  T one_of(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(below(static_cast<int64_t>(choices.size())))];
  }

 private:
  RandomSite site_;
  int64_t index_, throws_ = 0;
};

std::vector<int> divisors(int64_t n) {
  std::vector<int> d;
  for (int i = 1; i <= n; ++i)
    if (n % i == 0) d.push_back(i);
  return d;
}

void draw_model(Dice& dice, TinyOptions& o) {
  o.family = dice.coin() ? "llama" : "gpt2";
  o.dropout = dice.coin() ? 0.1f : 0.0f;
  o.heads = dice.one_of<int64_t>({4, 8});
  o.kv_heads = o.family == "llama" ? dice.one_of<int64_t>({1, 2, o.heads}) : o.heads;
  o.width = o.heads * 8;
  o.ffn = dice.one_of<int64_t>({64, 96});
  o.tied = dice.coin();
  o.recompute = dice.one_of<Recompute>({Recompute::kNone, Recompute::kFull});
  o.documents = dice.coin() ? Documents::kSeparate : Documents::kJoined;
  o.sequence = dice.one_of<int64_t>({16, 32, 48});
}

bool is_v_shaped(const std::string& schedule) { return schedule == "zb_v" || schedule == "dualpipev"; }

// Axes that multiply to the ranks; what is left is data parallel.
void draw_axes(Dice& dice, ParallelOptions& p, int ranks) {
  p.pp = dice.one_of(divisors(ranks));
  p.tp = dice.one_of(divisors(std::min(4, ranks / p.pp)));
  while (ranks / p.pp % p.tp != 0) p.tp /= 2;
  p.cp = dice.one_of(divisors(std::min(4, ranks / p.pp / p.tp)));
  while (ranks / p.pp / p.tp % p.cp != 0) p.cp /= 2;
  const int dp = ranks / p.pp / p.tp / p.cp;
  p.dp = dp;
  p.shard = dice.one_of(divisors(dp));
  p.sp = dice.coin();
  p.tp_overlap = dice.coin();
  p.cp_method = dice.coin() ? ContextMethod::kRing : ContextMethod::kUlysses;
  p.zero = static_cast<int>(dice.below(4));
  if (p.pp == 1) return;
  p.schedule = dice.one_of<std::string>({"gpipe", "1f1b", "interleaved_1f1b", "zb_h1", "zb_v", "dualpipev"});
  p.vp = is_v_shaped(p.schedule) ? 2 : p.schedule == "interleaved_1f1b" ? 2 : 1;
}

// A split into chunks of the recipe's own, one time in two.
void draw_layers(Dice& dice, TinyOptions& o) {
  ParallelOptions& p = o.parallel;
  const int64_t chunks = int64_t{p.pp} * p.vp;
  o.layers = chunks + dice.below(3) + (chunks == 1 ? 1 : 0);
  if (chunks == 1 || dice.coin()) return;
  p.layers.assign(static_cast<size_t>(chunks), 1);
  for (int64_t left = o.layers - chunks; left > 0; --left) ++p.layers[static_cast<size_t>(dice.below(chunks))];
}

}  // namespace

LayoutCase draw_layout(uint64_t seed, int64_t index, int num_ranks) {
  Dice dice(seed, index);
  LayoutCase c;
  TinyOptions& o = c.options;
  draw_model(dice, o);
  draw_axes(dice, o.parallel, num_ranks);
  draw_layers(dice, o);
  ParallelOptions& p = o.parallel;
  if (p.cp_method == ContextMethod::kUlysses && o.heads / p.tp % p.cp != 0) p.cp_method = ContextMethod::kRing;
  const int64_t least = p.pp == 1 ? 1 : is_v_shaped(p.schedule) ? 2 * p.pp : p.pp;  // micro-batches
  const int64_t passes = least * (1 + dice.below(2)), micro_batch = 1 + dice.below(2);
  o.train.micro_batch = micro_batch;
  o.train.global_batch = p.dp * passes * micro_batch;
  o.optim.name = dice.coin() ? "adamw" : "sgd";
  o.optim.lr = o.optim.name == "sgd" ? 0.05 : 2e-3;
  c.text = fmt::format(
      "{} layers {} heads {}/{} ffn {}{} T {} {} dropout {} recompute {} | dp {} (shard {}) tp {}{}{} cp {} {} pp {} "
      "vp {} {} "
      "layers [{}] zero {} | batch {} micro {} {}",
      o.family, o.layers, o.heads, o.kv_heads, o.ffn, o.tied ? " tied" : "", o.sequence,
      o.documents == Documents::kSeparate ? "documents" : "joined", o.family == "gpt2" ? o.dropout : 0,
      static_cast<int>(o.recompute), p.dp, p.shard, p.tp, p.sp ? " sp" : "", p.sp && p.tp_overlap ? " overlap" : "",
      p.cp, p.cp_method == ContextMethod::kRing ? "ring" : "ulysses", p.pp, p.vp, p.schedule, fmt::join(p.layers, ","),
      p.zero, o.train.global_batch, micro_batch, o.optim.name);
  return c;
}

}  // namespace deepflow::testing
