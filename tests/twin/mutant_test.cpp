#include "tests/twin/mutants/mutants.h"
#include "tests/twin/twin.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace mutants {
namespace {

constexpr size_t kBytes = kN * sizeof(float);

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (const auto& group : {barrier_cases(), race_cases(), warp_cases(), memory_cases()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

std::vector<Case> cases(bool broken) {
  std::vector<Case> chosen = all_cases();
  chosen.erase(std::remove_if(chosen.begin(), chosen.end(), [=](const Case& c) { return c.broken != broken; }),
               chosen.end());
  return chosen;
}

// Device buffers and their pinned images, for one run of one case.
class Device {
 public:
  Device() {
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    for (int i = 0; i < 3; ++i) {
      cudaMallocAsync(&device_[i], kBytes, stream_);
      cudaMallocHost(&pinned_[i], kBytes);
    }
    cudaMemsetAsync(device_[1], 0, kBytes, stream_);
    cudaMemsetAsync(device_[2], 0, kBytes, stream_);
    std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    std::generate_n(static_cast<float*>(pinned_[0]), kN, [&] { return normal(generator); });
    cudaMemcpyAsync(device_[0], pinned_[0], kBytes, cudaMemcpyHostToDevice, stream_);
  }
  ~Device() {
    for (void* p : device_) cudaFreeAsync(p, stream_);
    cudaStreamSynchronize(stream_);
    for (void* p : pinned_) cudaFreeHost(p);
    cudaStreamDestroy(stream_);
  }
  Device(const Device&) = delete;

  Result run(const Case& c) {
    static const std::vector<float> host(kN, 0.0f);
    EXPECT_EQ(c.run({static_cast<const float*>(device_[0]), static_cast<float*>(device_[1]),
                     static_cast<uint32_t*>(device_[2]), host.data(), stream_}),
              cudaSuccess);
    for (int i = 0; i < 3; ++i) cudaMemcpyAsync(pinned_[i], device_[i], kBytes, cudaMemcpyDeviceToHost, stream_);
    cudaStreamSynchronize(stream_);
    Result r;
    const auto* x = static_cast<const float*>(pinned_[0]);
    const auto* y = static_cast<const float*>(pinned_[1]);
    const auto* counter = static_cast<const uint32_t*>(pinned_[2]);
    r.x.assign(x, x + kN);
    r.y.assign(y, y + kN);
    r.counter.assign(counter, counter + kN);
    return r;
  }

 private:
  cudaStream_t stream_ = nullptr;
  void* device_[3] = {};
  void* pinned_[3] = {};
};

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += "\n  " + line;
  return text;
}

class SoundKernel : public testing::TestWithParam<Case> {};
class BrokenKernel : public testing::TestWithParam<Case> {};

void expect_sound(const Case& c, const twin::Config& config) {
  twin::start(config);
  EXPECT_TRUE(c.correct(Device().run(c))) << "seed " << config.seed;
  const auto reports = twin::take_reports();
  EXPECT_TRUE(reports.empty()) << "seed " << config.seed << join(reports);
}

TEST_P(SoundKernel, IsCorrectAndNotBlamedUnderAnyOrder) {
  for (uint64_t seed = 1; seed <= 40; ++seed) expect_sound(GetParam(), {seed, twin::Order::kRandom});
  expect_sound(GetParam(), {1, twin::Order::kAscending});
  expect_sound(GetParam(), {1, twin::Order::kDescending});
}

void expect_found(const Case& c, const twin::Config& config) {
  twin::start(config);
  const Result result = Device().run(c);
  if (c.finding) {
    EXPECT_TRUE(twin::found(*c.finding)) << "seed " << config.seed << ": no " << twin::kind_name(*c.finding)
                                         << join(twin::take_reports());
  } else {
    EXPECT_FALSE(c.correct(result)) << "seed " << config.seed;
  }
}

TEST_P(BrokenKernel, IsFoundUnderEveryOrder) {
  for (uint64_t seed = 1; seed <= 8; ++seed) expect_found(GetParam(), {seed, twin::Order::kRandom});
  expect_found(GetParam(), {1, twin::Order::kAscending});
  expect_found(GetParam(), {1, twin::Order::kDescending});
}

std::string name_of(const testing::TestParamInfo<Case>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Twin, SoundKernel, testing::ValuesIn(cases(false)), name_of);
INSTANTIATE_TEST_SUITE_P(Twin, BrokenKernel, testing::ValuesIn(cases(true)), name_of);

std::vector<float> arrivals(const twin::Config& config) {
  twin::start(config);
  return Device().run({"Arrivals", {}, run_arrivals}).y;
}

TEST(Order, IsDrawnFromTheSeed) {
  EXPECT_EQ(arrivals({1}), arrivals({1}));
  EXPECT_NE(arrivals({1}), arrivals({2}));
  std::vector<float> counted(kN);
  for (int i = 0; i < kN; ++i) counted[i] = static_cast<float>(i);
  EXPECT_EQ(arrivals({1, twin::Order::kAscending}), counted);
  std::reverse(counted.begin(), counted.end());
  EXPECT_EQ(arrivals({1, twin::Order::kDescending}), counted);
}

TEST(Limits, TooManyBarriersAreFound) {
  const auto barriers = [](int count) {
    twin::start({});
    Device().run({"ManyBarriers", {}, [=](const Buffers& b) { return run_many_barriers(count, b); }});
    return twin::found(twin::Kind::kLimit);
  };
  EXPECT_FALSE(barriers(65000));
  EXPECT_TRUE(barriers(66000));
}

TEST(Reports, NameKernelThreadAndSourceLine) {
  twin::start({});
  const auto all = all_cases();
  const auto c = std::find_if(all.begin(), all.end(), [](const Case& k) { return k.name == "ReadPastEnd"; });
  Device().run(*c);
  const auto reports = twin::take_reports();
  ASSERT_FALSE(reports.empty());
  EXPECT_NE(reports[0].find("copy block 0 thread 63"), std::string::npos) << reports[0];
  EXPECT_NE(reports[0].find("memory.cu:"), std::string::npos) << reports[0];
}

}  // namespace
}  // namespace mutants
