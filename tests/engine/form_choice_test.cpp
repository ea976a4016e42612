#include "engine/form_choice.h"

#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

using namespace testing;

TEST(FormChoice, KeepsAllFormsWhereTwoThirdsOfTheShareHoldThem) {
  ParameterRegistry registry;
  registry.add(parameter("w", {300, 100}));
  registry.freeze({});
  const int64_t all = training_bytes(registry, DType::kBF16, FormsKept::kAll);
  EXPECT_EQ(all, 300 * 100 * 20);
  EXPECT_EQ(training_bytes(registry, DType::kBF16, FormsKept::kForward), 300 * 100 * 18);
  EXPECT_EQ(training_bytes(registry, DType::kF32, FormsKept::kAll), 300 * 100 * 24);
  EXPECT_EQ(choose_forms("auto", registry, DType::kBF16, all / 2 * 3), FormsKept::kAll);
  EXPECT_EQ(choose_forms("auto", registry, DType::kBF16, all / 2 * 3 - 3), FormsKept::kForward);
  EXPECT_EQ(choose_forms("auto", registry, DType::kBF16, 0), FormsKept::kAll);
  EXPECT_EQ(choose_forms("all", registry, DType::kBF16, 1), FormsKept::kAll);
  EXPECT_EQ(choose_forms("forward", registry, DType::kBF16, all * 100), FormsKept::kForward);
}

TEST(MemoryShare, IsByThreadsOfWhatIsAvailableOrGranted) {
  HostReport host;
  host.cpus = 8;
  host.available_bytes = 8000;
  EXPECT_EQ(memory_share(host, 2), 2000);
  EXPECT_EQ(memory_share(host, 16), 8000);
  host.memory_limit = 4000;
  EXPECT_EQ(memory_share(host, 2), 1000);
}

}  // namespace
}  // namespace deepflow
