#include "engine/schedule_picture.h"

#include "core/durable_file.h"
#include "core/error.h"
#include "core/trace.h"
#include "engine/measured_schedule.h"
#include "parallel/schedule_lowering.h"
#include "parallel/schedule_registry.h"
#include "parallel/schedule_simulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace deepflow {
namespace {

using testing::HasSubstr;

size_t occurrences(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(SchedulePicture, HasARowForEachRankAndABoxForEachAction) {
  const Schedule lowered = lower(make_schedule("zb_h1", 3, 1, 4), 0);
  const ScheduleTimes times = simulate(lowered).times;
  const std::string svg = schedule_as_svg("a < b", lowered, {{"planned", times, 1, ""}, {"measured", times, 1, "ms"}});
  EXPECT_THAT(svg, testing::StartsWith("<svg "));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("a &lt; b"));
  EXPECT_THAT(svg, HasSubstr("measured: 14 ms a step, bubble 14.29 %"));
  EXPECT_EQ(occurrences(svg, ">rank 2</text>"), 2u);
  EXPECT_EQ(occurrences(svg, "<g><title>"), 2u * 3 * 3 * 4);
  EXPECT_EQ(occurrences(svg, "<title>rank 1: W c1 m3, "), 2u);
}

TEST(SchedulePicture, WovenPairsShowBothParts) {
  const Schedule lowered = lower(make_schedule("dualpipev", 2, 2, 4), 0);
  const std::string svg = schedule_as_svg("", lowered, {{"planned", simulate(lowered).times, 1, ""}});
  const size_t box = svg.find("F c1 m3 + BW c2 m1");
  ASSERT_NE(box, std::string::npos);
  EXPECT_EQ(occurrences(svg.substr(box, svg.find("</g>", box) - box), "<rect "), 2u);
}

// A trace as a run writes it: `copies` ranks for each of the pipeline, every span `copies` times as long.
std::string trace_of(const ScheduleTimes& times, int copies, int num_steps) {
  std::vector<std::vector<Trace::Span>> spans;
  for (const auto& list : times.of_rank)
    for (int copy = 0; copy < copies; ++copy) {
      spans.emplace_back();
      spans.back().push_back({"forward", SpanKind::kCompute, 5, 6});
      for (int step = 0; step < num_steps; ++step)
        for (const TimedAction& a : list)
          if (is_compute(a.action.what))
            spans.back().push_back({name_of(a.action), SpanKind::kCompute, 1000 * step + 10 + a.begin * (copy + 1),
                                    1000 * step + 10 + a.end * (copy + 1)});
    }
  return to_chrome_trace(spans);
}

class MeasuredSchedule : public testing::Test {
 protected:
  ~MeasuredSchedule() override { std::filesystem::remove(path_); }
  std::string error_of(const Schedule& planned) const {
    try {
      read_measured_schedule(path_, planned);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  const std::string path_ = testing::TempDir() + "/measured_schedule_test.json";
};

TEST_F(MeasuredSchedule, ReadsTheFirstStepOfTheFirstRankOfEachStage) {
  for (const char* name : {"zb_v", "dualpipev", "1f1b"}) {
    const Schedule lowered = lower(make_schedule(name, 3, 0, 8), 2);
    const ScheduleTimes times = simulate(lowered, {}, 2).times;
    write_file_durably(path_, trace_of(times, 2, 2));
    const ScheduleTimes measured = read_measured_schedule(path_, lowered);
    ASSERT_EQ(measured.num_ranks(), 3);
    EXPECT_NEAR(measured.duration(), times.duration(), 0.01) << name;
    for (int r = 0; r < 3; ++r) EXPECT_NEAR(measured.bubble(r), times.bubble(r), 1e-3) << name;
    EXPECT_NEAR(measured.begin(), 0, 1e-9);
  }
}

TEST_F(MeasuredSchedule, OtherFilesAreRefused) {
  const Schedule planned = lower(make_schedule("1f1b", 3, 1, 8), 0);
  EXPECT_THAT(error_of(planned), HasSubstr("cannot be opened"));
  for (const char* text : {"", "{", "[1]", "{\"traceEvents\": 3}", "{\"traceEvents\": [{\"ph\": \"X\"}]}",
                           "[{\"pid\": -1}]", "[{\"pid\": 0, \"ph\": \"X\", \"name\": \"F c0 m0\"}]"}) {
    write_file_durably(path_, text);
    EXPECT_THAT(error_of(planned), HasSubstr(path_)) << text;
  }
  write_file_durably(path_, trace_of(simulate(lower(make_schedule("gpipe", 3, 1, 8), 0)).times, 1, 1));
  EXPECT_THAT(error_of(planned), HasSubstr("pipeline rank 0 ran F c0 m3 where its schedule has BW c0 m0"));
  EXPECT_THAT(error_of(lower(make_schedule("gpipe", 3, 1, 9), 0)), HasSubstr("has 16 spans"));
  EXPECT_THAT(error_of(lower(make_schedule("gpipe", 2, 1, 8), 0)), HasSubstr("3 traced ranks are no multiple of 2"));
}

}  // namespace
}  // namespace deepflow
