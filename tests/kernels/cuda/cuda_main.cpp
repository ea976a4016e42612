#include "core/cuda_device.h"

#include <gtest/gtest.h>

#include <cstdio>

// Runs the tests on a GPU; without one says so and tells ctest to count them as skipped.
int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  testing::InitGoogleTest(&argc, argv);
  const deepflow::CudaInventory inventory = deepflow::find_cuda_devices();
  if (inventory.devices.empty()) {
    std::printf("%s: CUDA tests not run\n", inventory.why_none.c_str());
    return kSkipped;
  }
  std::printf("CUDA tests on %s\n", inventory.devices[0].name.c_str());
  return RUN_ALL_TESTS();
}
