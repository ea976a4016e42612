#include "core/cuda_device.h"

#include "core/cuda_check.h"
#include "core/error.h"

#include <fmt/format.h>

namespace deepflow {

void throw_cuda_error(cudaError_t error, const char* what) {
  throw DeviceError("CUDA: {} failed: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

namespace {

std::string why_unusable(cudaError_t error) {
  int driver = 0;
  if (error != cudaErrorInsufficientDriver || cudaDriverGetVersion(&driver) != cudaSuccess)
    return fmt::format("no GPU: {}", cudaGetErrorString(error));
  if (driver == 0) return "no GPU: no CUDA driver";
  return fmt::format("no GPU: the driver serves CUDA {}.{}, this build needs {}.{}", driver / 1000, driver % 1000 / 10,
                     CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

}  // namespace

CudaInventory find_cuda_devices() {
  CudaInventory inventory;
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();  // it is known now; later checks must not find it
    inventory.why_none = why_unusable(error);
    return inventory;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    inventory.devices.push_back(
        {i, p.name, p.major, p.minor, p.multiProcessorCount, static_cast<int64_t>(p.totalGlobalMem)});
  }
  if (inventory.devices.empty()) inventory.why_none = "no GPU: the driver shows none";
  return inventory;
}

void use_cuda_device(int index) { check_cuda(cudaSetDevice(index), "choosing a GPU"); }

}  // namespace deepflow
