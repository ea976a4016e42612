#include "core/durable_file.h"
#include "core/error.h"
#include "engine/loss_curve.h"
#include "engine/metrics_file.h"
#include "engine/progress.h"
#include "engine/run_report.h"
#include "engine/run_trace.h"
#include "engine/tensorboard.h"
#include "parallel/self_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace deepflow {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Reports : public ::testing::Test {
 protected:
  Reports() {
    char name[] = "/tmp/deepflow-report-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~Reports() override { std::filesystem::remove_all(folder_); }
  std::string read(const std::string& path) const {
    std::stringstream content;
    content << std::ifstream(path, std::ios::binary).rdbuf();
    return content.str();
  }
  std::string folder_;
};

TEST(ProgressLine, SaysWhatAUserWatches) {
  ProgressFigures f;
  f.step = 120, f.steps = 600, f.loss = 4.41237, f.gradient_norm = 0.6132, f.lr = 1.9e-3, f.tokens_per_second = 11234;
  f.mfu = 0.604, f.memory_bytes = 412'000'000, f.seconds_left = 351;
  EXPECT_EQ(progress_line(f),
            "step 120/600  loss 4.4124  grad 0.613  lr 1.90e-03  11.2k tok/s  mfu 60 %  mem 0.41 GB  eta 5m51s");
}

TEST(ProgressLine, TellsTheLargestScoreWhereItIsKnown) {
  ProgressFigures f;
  EXPECT_THAT(progress_line(f), Not(HasSubstr("score")));
  f.score = 87.26;
  EXPECT_THAT(progress_line(f), HasSubstr("  score 87.3  "));
}

TEST(ProgressLine, WritesDurationsAndCountsShort) {
  EXPECT_EQ(short_duration(0), "0s");
  EXPECT_EQ(short_duration(59.4), "59s");
  EXPECT_EQ(short_duration(59.6), "1m00s");
  EXPECT_EQ(short_duration(3599.4), "59m59s");
  EXPECT_EQ(short_duration(7384), "2h03m");
  EXPECT_EQ(short_duration(400'000), "111h06m");
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(512), "512");
  EXPECT_EQ(short_count(999.4), "999");
  EXPECT_EQ(short_count(999.6), "1k");
  EXPECT_EQ(short_count(11'234), "11.2k");
  EXPECT_EQ(short_count(999'600), "1M");
  EXPECT_EQ(short_count(124'439'808), "124M");
  EXPECT_EQ(short_count(7e15), "7e+03T");
}

TEST_F(Reports, ProgressIsOneLineEveryFewStepsInAFile) {
  const std::string path = folder_ + "/out";
  std::FILE* out = std::fopen(path.c_str(), "w");
  EXPECT_FALSE(is_watched(out));
  Progress progress(out, 5);
  ProgressFigures f;
  f.steps = 12;
  for (f.step = 1; f.step <= 12; ++f.step) {
    progress.show(f);
    if (f.step == 7) progress.note("a note");
  }
  progress.finish();
  std::fclose(out);
  std::vector<std::string> first_words;
  std::istringstream lines(read(path));
  for (std::string line; std::getline(lines, line);) first_words.push_back(line.substr(0, line.find(' ', 5)));
  EXPECT_EQ(first_words, (std::vector<std::string>{"step 1/12", "step 5/12", "a note", "step 10/12", "step 12/12"}));
}

TEST(Progress, OnAFullDiskIsAnError) {
  std::FILE* full = std::fopen("/dev/full", "w");
  Progress progress(full, 1);
  EXPECT_THROW(progress.note("hello"), StorageError);
  std::fclose(full);
}

TEST_F(Reports, MetricsAreOneObjectALineAndThereAtOnce) {
  const std::string path = folder_ + "/metrics.jsonl";
  MetricsFile metrics(path);
  metrics.add({{"step", 1}, {"loss", 2.5}});
  EXPECT_EQ(read(path), "{\"loss\":2.5,\"step\":1}\n");
  metrics.add({{"step", 2}, {"loss", NAN}});
  std::istringstream lines(read(path));
  std::string line;
  std::getline(lines, line);
  std::getline(lines, line);
  EXPECT_TRUE(nlohmann::json::parse(line).at("loss").is_null());
}

TEST_F(Reports, MetricsThatCannotBeWrittenAreAnError) {
  EXPECT_THROW(MetricsFile("/nowhere/metrics.jsonl"), StorageError);
  MetricsFile full("/dev/full");
  EXPECT_THROW(full.add({{"step", 1}}), StorageError);
}

// A protobuf message as its fields: number, wire type and the raw bytes or value.
struct Field {
  uint64_t number, type;
  std::string bytes;  // type 2
  uint64_t value;     // types 0, 1 and 5
};
uint64_t read_varint(const std::string& text, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<uint8_t>(text.at(at++));
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}
std::vector<Field> fields_of(const std::string& message) {
  std::vector<Field> fields;
  for (size_t at = 0; at < message.size();) {
    const uint64_t key = read_varint(message, at);
    Field f{key >> 3, key & 7, {}, 0};
    if (f.type == 0) {
      f.value = read_varint(message, at);
    } else if (f.type == 2) {
      const uint64_t size = read_varint(message, at);
      f.bytes = message.substr(at, size);
      EXPECT_EQ(f.bytes.size(), size);
      at += size;
    } else {
      const size_t size = f.type == 1 ? 8 : 4;
      std::memcpy(&f.value, message.substr(at, size).data(), size);
      at += size;
    }
    fields.push_back(f);
  }
  return fields;
}

// The records of a TFRecord file, checksums compared.
std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> records;
  for (size_t at = 0; at < file.size();) {
    uint64_t size = 0;
    uint32_t size_crc = 0, crc = 0;
    std::memcpy(&size, file.data() + at, 8);
    std::memcpy(&size_crc, file.data() + at + 8, 4);
    EXPECT_EQ(size_crc, masked_crc32c(file.substr(at, 8)));
    records.push_back(file.substr(at + 12, size));
    std::memcpy(&crc, file.data() + at + 12 + size, 4);
    EXPECT_EQ(crc, masked_crc32c(records.back()));
    at += 16 + size;
    EXPECT_LE(at, file.size());
  }
  return records;
}

TEST(Tensorboard, ChecksumIsCastagnolisMasked) {
  // CRC-32C of RFC 3720, B.4: 32 bytes of zeros and of ones; "123456789".
  const auto masked = [](uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; };
  EXPECT_EQ(masked_crc32c(std::string(32, '\0')), masked(0x8a9136aa));
  EXPECT_EQ(masked_crc32c(std::string(32, '\xff')), masked(0x62a8ab43));
  EXPECT_EQ(masked_crc32c("123456789"), masked(0xe3069283));
}

TEST_F(Reports, TensorboardEventsCarryStepsTagsAndValues) {
  TensorboardWriter writer(folder_ + "/events", 7);
  writer.add(8, {{"train/loss", 2.5}, {"train/lr", 1e-3}});
  writer.add(300, {{"train/loss", -1.25}});
  EXPECT_THAT(writer.path(), HasSubstr("/events/events.out.tfevents."));
  const std::vector<std::string> records = records_of(read(writer.path()));
  ASSERT_EQ(records.size(), 4u);

  const std::vector<Field> version = fields_of(records[0]), start = fields_of(records[1]);
  ASSERT_EQ(version.size(), 2u);
  EXPECT_EQ(version[0].number, 1u);  // wall_time, a double
  double seconds = 0;
  std::memcpy(&seconds, &version[0].value, 8);
  EXPECT_NEAR(seconds, static_cast<double>(time(nullptr)), 5);
  EXPECT_EQ(version[1].number, 3u);
  EXPECT_EQ(version[1].bytes, "brain.Event:2");
  EXPECT_EQ(start[1].value, 7u);
  EXPECT_EQ(start[2].number, 7u);  // session_log {status: START}
  EXPECT_EQ(fields_of(start[2].bytes)[0].value, 1u);

  const std::vector<Field> event = fields_of(records[2]);
  ASSERT_EQ(event.size(), 3u);
  EXPECT_EQ(event[1].number, 2u);
  EXPECT_EQ(event[1].value, 8u);
  EXPECT_EQ(event[2].number, 5u);
  const std::vector<Field> summary = fields_of(event[2].bytes);
  ASSERT_EQ(summary.size(), 2u);
  const std::vector<Field> value = fields_of(summary[0].bytes);
  ASSERT_EQ(value.size(), 2u);
  EXPECT_EQ(value[0].bytes, "train/loss");
  float loss = 0;
  std::memcpy(&loss, &value[1].value, 4);
  EXPECT_EQ(loss, 2.5f);
  EXPECT_EQ(fields_of(records[3])[1].value, 300u);  // a varint of two bytes
}

TEST(Tensorboard, FolderThatCannotBeMadeIsAnError) { EXPECT_THROW(TensorboardWriter("/proc/nowhere"), StorageError); }

// Opening tags, closing tags and self-closing ones balance, and attributes are quoted.
void expect_well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at + 1)) {
    const size_t end = xml.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = xml.substr(at + 1, end - at - 1);
    EXPECT_EQ(tag.find('<'), std::string::npos) << tag;
    EXPECT_EQ(std::count(tag.begin(), tag.end(), '\'') % 2, 0) << tag;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.front() == '/') {
      ASSERT_FALSE(open.empty());
      EXPECT_EQ(tag.substr(1), open.back());
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty());
}

TEST(LossCurve, IsWellFormedAndHoldsEveryFinitePoint) {
  const Curve a{"training", {{1, 5.5}, {2, NAN}, {3, INFINITY}, {4, 2.5}}};
  const Curve b{"held <out> & more", {{1, 5.0}, {4, 3.0}}, true};
  const std::string svg = curves_as_svg("Loss <of> a & b", "step", "nats", {a, b});
  expect_well_formed(svg);
  EXPECT_THAT(svg, HasSubstr("Loss &lt;of> a &amp; b"));
  EXPECT_THAT(svg, HasSubstr("held &lt;out> &amp; more"));
  EXPECT_THAT(svg, HasSubstr("points='64.0,44.0 776.0,428.0 '"));  // corner to corner of the axes
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  size_t circles = 0;
  for (size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) ++circles;
  EXPECT_EQ(circles, 2u);
}

TEST(LossCurve, IsDrawnOfNothingOnePointAndALevelLine) {
  for (const std::vector<CurvePoint>& points :
       std::vector<std::vector<CurvePoint>>{{}, {{3, 4}}, {{NAN, 1}}, {{1, 2}, {2, 2}}}) {
    const std::string svg = curves_as_svg("t", "x", "y", {{"c", points}});
    expect_well_formed(svg);
    EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
    EXPECT_LT(svg.size(), 20'000u);
  }
}

TEST_F(Reports, MfuIsOfTheBestRateSoFar) {
  RunOptions options;
  options.run.dir = folder_;
  options.log.tensorboard = false;
  options.train.steps = 3;
  RunReport report(options, true, 1e9, 1e3);
  StepReport done;
  done.loss = 1, done.tokens = 1000;
  const double rates[] = {1e9, 4e9, 2e9}, best[] = {1e9, 4e9, 4e9};
  for (size_t i = 0; i < 3; ++i) {
    report.gemm_rate(rates[i], 0);
    ++done.step;
    report.step(done);
    std::string line, last;
    for (std::istringstream lines(read(folder_ + "/metrics.jsonl")); std::getline(lines, line);) last = line;
    const nlohmann::json metrics = nlohmann::json::parse(last);
    const double expected = metrics.at("tokens_per_second").get<double>() * 1e3 / best[i];
    EXPECT_NEAR(metrics.at("mfu").get<double>(), expected, 1e-6 * expected) << i;
  }
}

TEST_F(Reports, TraceHoldsTheSpansOfTheChosenSteps) {
  Trace trace;
  const auto comm = make_self_communicator("trace");
  const std::string path = folder_ + "/trace.json";
  RunTrace run_trace(trace, *comm, 2, 2, path);
  for (int64_t step = 1; step <= 5; ++step) {
    run_trace.before_step(step);
    const double now = Trace::now_us();
    { const ScopedSpan span(trace, "forward \"quoted\" \\ name", SpanKind::kCompute); }
    if (trace.enabled()) trace.add("step " + std::to_string(step), SpanKind::kCommunication, now, now + 10);
    run_trace.after_step(step);
    EXPECT_EQ(std::filesystem::exists(path), step >= 3);
  }
  const nlohmann::json events = nlohmann::json::parse(read(path)).at("traceEvents");
  std::vector<std::string> names;
  for (const nlohmann::json& e : events) {
    if (e.at("ph") != "X") continue;
    names.push_back(e.at("name"));
    EXPECT_EQ(e.at("pid"), 0);
    EXPECT_GE(e.at("ts").get<double>(), 0);
    EXPECT_LT(e.at("ts").get<double>(), 60e6);
    EXPECT_GE(e.at("dur").get<double>(), 0);
  }
  const std::string quoted = "forward \"quoted\" \\ name";
  EXPECT_THAT(names, ::testing::UnorderedElementsAre(quoted, "step 2", quoted, "step 3"));
}

TEST_F(Reports, TraceCountsTheLoadOfExperts) {
  Trace trace;
  const auto comm = make_self_communicator("trace");
  const std::string path = folder_ + "/trace.json";
  RunTrace run_trace(trace, *comm, 2, 2, path);
  for (int64_t step = 1; step <= 4; ++step) {
    run_trace.before_step(step);
    { const ScopedSpan span(trace, "step", SpanKind::kCompute); }
    run_trace.after_step(step, {{"layers.0.moe", {3 * step, step}, step, 0, 0}, {"layers.1.moe", {1, 1}, 0, 0, 0}});
  }
  std::map<std::string, std::vector<double>> values;
  const nlohmann::json events = nlohmann::json::parse(read(path)).at("traceEvents");
  for (const nlohmann::json& e : events) {
    if (e.at("ph") != "C") continue;
    values[e.at("name")].push_back(e.at("args").at("value"));
    EXPECT_GE(e.at("ts").get<double>(), 0);
  }
  EXPECT_EQ(values.size(), 6u);
  EXPECT_EQ(values["imbalance/layers.0.moe"], (std::vector<double>{1.5, 1.5}));
  EXPECT_EQ(values["dropped/layers.0.moe"], (std::vector<double>{0.25, 0.25}));
  EXPECT_NEAR(values["entropy/layers.0.moe"].at(1), 0.811278, 1e-6);
  EXPECT_EQ(values["entropy/layers.1.moe"], (std::vector<double>{1, 1}));
}

TEST_F(Reports, NoTraceIsWrittenUnlessAskedFor) {
  Trace trace;
  const auto comm = make_self_communicator("trace");
  RunTrace run_trace(trace, *comm, 0, 3, folder_ + "/trace.json");
  for (int64_t step = 1; step <= 5; ++step) {
    run_trace.before_step(step);
    EXPECT_FALSE(trace.enabled());
    run_trace.after_step(step);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

}  // namespace
}  // namespace deepflow
