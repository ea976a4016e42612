#include "tests/parallel/mpi_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

namespace deepflow {
namespace {

World* world = nullptr;
int64_t most_elements = INT64_MAX;

class FailurePrinter final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", world->rank(), result.file_name() ? result.file_name() : "?",
                 result.line_number(), result.message());
  }
};

}  // namespace

World& test_world() { return *world; }
int64_t test_size(int64_t n) { return std::min(n, most_elements); }

int run_mpi_tests(int argc, char** argv, const CommOptions& options, int64_t most) {
  testing::InitGoogleTest(&argc, argv);
  most_elements = most;
  return run_world(options, [](World& w) {
    world = &w;
    if (w.rank() != 0) {
      auto& listeners = testing::UnitTest::GetInstance()->listeners();
      delete listeners.Release(listeners.default_result_printer());
      listeners.Append(new FailurePrinter);
    }
    return RUN_ALL_TESTS();
  });
}

}  // namespace deepflow
