#include "tests/engine/random_layout.h"

#include "parallel/schedule_registry.h"

#include <gtest/gtest.h>

#include <set>

namespace deepflow {
namespace {

using namespace testing;

constexpr int64_t kDraws = 300;

template <class F>
void for_every_draw(F&& f) {
  for (const int ranks : {2, 4, 8})
    for (int64_t i = 0; i < kDraws; ++i) f(draw_layout(1, i, ranks), ranks);
}

TEST(RandomLayout, IsAPureFunction) {
  for (int64_t i = 0; i < kDraws; ++i) EXPECT_EQ(draw_layout(1, i, 8).text, draw_layout(1, i, 8).text);
  EXPECT_NE(draw_layout(1, 0, 8).text, draw_layout(2, 0, 8).text);
}

TEST(RandomLayout, FillsTheRanks) {
  for_every_draw([](const LayoutCase& c, int ranks) {
    const ParallelOptions& p = c.options.parallel;
    EXPECT_EQ(p.dp * p.tp * p.cp * p.pp, ranks) << c.text;
    EXPECT_EQ(c.options.train.global_batch % p.dp, 0) << c.text;
    EXPECT_NO_THROW(layout_of(p, ranks)) << c.text;
    EXPECT_NO_THROW(tiny_model(c.options)) << c.text;
  });
}

// A case that is never drawn is never tested.
TEST(RandomLayout, DrawsEveryStrategyAndTheirCorners) {
  std::set<std::string> seen;
  for_every_draw([&](const LayoutCase& c, int ranks) {
    const TinyOptions& o = c.options;
    const ParallelOptions& p = o.parallel;
    const auto see = [&](bool condition, const std::string& what) {
      if (condition) seen.insert(what);
    };
    see(p.pp > 1, p.schedule);
    see(p.tp > 1 && p.cp > 1, o.family);
    see(p.cp > 1 && o.window > 0, p.cp_method == ContextMethod::kRing ? "window in a ring" : "window by heads");
    see(p.vp == 3, "three chunks a stage");
    see(true, fmt::format("zero {}", p.zero));
    see(true, fmt::format("recompute {}", static_cast<int>(o.recompute)));
    see(p.cp > 1, p.cp_method == ContextMethod::kRing ? "ring" : "ulysses");
    see(p.tp > 1 && o.kv_heads < p.tp, "fewer key heads than ranks");
    see(p.shard > 1 && p.shard < p.dp, "hybrid");
    see(p.ep > 1, "experts over ranks");
    see(p.etp > 1, "parts of experts");
    see(p.ep > 1 && p.ep * p.etp > p.dp * p.cp, "experts over the ranks of tp");
    see(o.family == "mixtral" && p.ep == 1 && p.tp > 1, "experts on every rank of tp");
    see(o.optim.clip == 0, "no clipping");
    see(p.tp > 1 && (p.zero == 0 || p.dp > 1), o.optim.name + " over parts");
    see(!o.train.offload_optimizer.empty(), "offload");
    see(o.train.weight_forms == "forward", "forms for forward only");
    see(p.tp == ranks || p.cp == ranks || p.pp == ranks || p.dp == ranks, "one strategy");
    see(p.tp > 1 && p.cp > 1 && p.pp > 1, "three strategies");
    if (!o.train.micro_batch) return;
    const int64_t passes = o.train.global_batch / p.dp / *o.train.micro_batch;
    see(p.pp > 1 && passes < p.pp, "fewer micro-batches than stages");
    see(p.pp > 1 && passes > p.pp && passes % p.pp != 0, "no multiple of the stages");
    const int64_t rows = *o.train.micro_batch * o.sequence / p.cp;
    see(p.tp > 1 && p.sp && rows % p.tp != 0, "rows that do not divide");
    see(p.tp > 1 && p.sp && rows < p.tp, "ranks without rows");
  });
  for (const std::string& name : schedule_names()) EXPECT_TRUE(seen.count(name)) << name;
  for (const std::string& name : optimizer_names())
    if (name != "adamw8bit") {
      EXPECT_TRUE(seen.count(name + " over parts")) << name;
    }
  for (const char* what : {"llama",
                           "gpt2",
                           "qwen2",
                           "qwen3",
                           "gemma2",
                           "mixtral",
                           "window in a ring",
                           "window by heads",
                           "three chunks a stage",
                           "zero 0",
                           "zero 1",
                           "zero 2",
                           "zero 3",
                           "recompute 0",
                           "recompute 1",
                           "recompute 2",
                           "ring",
                           "ulysses",
                           "fewer key heads than ranks",
                           "hybrid",
                           "experts over ranks",
                           "parts of experts",
                           "experts over the ranks of tp",
                           "experts on every rank of tp",
                           "no clipping",
                           "offload",
                           "forms for forward only",
                           "one strategy",
                           "three strategies",
                           "fewer micro-batches than stages",
                           "no multiple of the stages",
                           "rows that do not divide",
                           "ranks without rows"})
    EXPECT_TRUE(seen.count(what)) << what;
}

}  // namespace
}  // namespace deepflow
