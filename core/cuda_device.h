#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

struct CudaDevice {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int num_multiprocessors = 0;
  int64_t memory_bytes = 0;
};

// The GPUs this process may use. Never throws: without any, `why_none` says why ("no GPU: ...").
struct CudaInventory {
  std::vector<CudaDevice> devices;
  std::string why_none;
};
CudaInventory find_cuda_devices();

// Makes a GPU the one that calls of this thread go to. Throws DeviceError.
void use_cuda_device(int index);

}  // namespace deepflow
