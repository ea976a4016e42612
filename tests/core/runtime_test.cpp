#include "core/runtime.h"

#include "core/error.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace deepflow {
namespace {

TEST(ThreadPool, CoversEveryIndexOnceAtTheGrain) {
  for (const int threads : {1, 2, 3}) {
    const ThreadPool pool(threads);
    std::vector<std::atomic<int>> seen(1001);
    pool.parallel_for(1001, 16, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin % 16, 0);
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    });
    for (auto& s : seen) EXPECT_EQ(s.load(), 1);
    pool.parallel_for(0, 1, [](int64_t, int64_t) { FAIL(); });
  }
}

TEST(ThreadPool, DynamicLoopTakesEveryIndexOnce) {
  const ThreadPool pool(2);
  std::vector<std::atomic<int>> seen(100);
  pool.parallel_for_dynamic(100, [&](int64_t i) { ++seen[static_cast<size_t>(i)]; });
  for (auto& s : seen) EXPECT_EQ(s.load(), 1);
}

TEST(Runtime, RefusesAnInstructionSetThatTheMachineLacks) {
  const CpuFeatures none{};
  EXPECT_THROW(best_isa(none), ConfigError);
  EXPECT_THROW(isa_from_name("sse2"), ConfigError);
  EXPECT_EQ(Runtime({.threads = 1, .cpu_isa = CpuIsa::kAvx2}).isa(), CpuIsa::kAvx2);
}

TEST(Runtime, KeepsOneObjectPerSlotType) {
  struct Cache {
    int uses = 0;
  };
  Runtime runtime({.threads = 1});
  ++runtime.slot<Cache>().uses;
  EXPECT_EQ(++runtime.slot<Cache>().uses, 2);
}

TEST(Trace, WritesWhatPerfettoReads) {
  Trace trace;
  { const ScopedSpan off(trace, "off", SpanKind::kCompute); }
  trace.set_enabled(true);
  { const ScopedSpan on(trace, "a \"quoted\" name", SpanKind::kWaiting); }
  const auto spans = trace.take();
  ASSERT_EQ(spans.size(), 1u);
  const auto json = nlohmann::json::parse(to_chrome_trace({spans, {}}));
  int complete = 0;
  for (const auto& event : json["traceEvents"])
    if (event["ph"] == "X") {
      ++complete;
      EXPECT_EQ(event["name"], "a \"quoted\" name");
      EXPECT_EQ(event["cat"], "waiting");
      EXPECT_EQ(event["ts"], 0.0);
      EXPECT_GE(event["dur"].get<double>(), 0);
    }
  EXPECT_EQ(complete, 1);
}

TEST(Error, SuggestsOnlyNearNames) {
  EXPECT_EQ(nearest_name_hint("warm_up", {"warmup", "lr"}), "; did you mean warmup?");
  EXPECT_EQ(nearest_name_hint("zzzzzzzz", {"warmup", "lr"}), "");
}

}  // namespace
}  // namespace deepflow
