#pragma once

#include <cuda_runtime_api.h>

#include <string>

// No fmt in here: nvcc 13 cannot compile Debian 12's.
namespace deepflow {

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line, const std::string& message);

[[noreturn]] void throw_cuda_error(cudaError_t error, const char* what);

// Throws DeviceError unless a CUDA call went well; `what` says what was tried.
inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw_cuda_error(error, what);
}

}  // namespace deepflow

// DF_ASSERT of core/error.h for host code in .cu files.
#define DF_CUDA_ASSERT(cond)                                       \
  do {                                                             \
    if (!(cond)) [[unlikely]]                                      \
      ::deepflow::assertion_failed(#cond, __FILE__, __LINE__, ""); \
  } while (0)
