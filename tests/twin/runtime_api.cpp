#include "tests/twin/address_space.h"
#include "tests/twin/arena.h"
#include "tests/twin/emulator.h"
#include "tests/twin/graph.h"
#include "tests/twin/shared_memory.h"
#include "tests/twin/stream.h"
#include "tests/twin/thread_block.h"

#include <cuda_runtime_api.h>

#include <cstring>
#include <map>
#include <string>
#include <utility>

// A memory pool of the driver; here every allocation is one of its own, so that bounds and lifetimes show.
struct CUmemPoolHandle_st {
  uint64_t release_threshold = 0, reserved = 0;
};

// The part of the CUDA runtime that DeepFlow calls: a call that is missing here does not link.
namespace twin {

namespace {

constexpr size_t kDefaultShared = 48 << 10;
std::map<const void*, size_t> kernels_with_much_shared;  // the attribute that cudaFuncSetAttribute gave them

bool valid_shape(dim3 grid, dim3 block) {
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z, threads = uint64_t{block.x} * block.y * block.z;
  if (!blocks || grid.y > 65535 || grid.z > 65535 || !threads || threads > 1024 || block.z > 64) return false;
  if (blocks > kMaxBlocks) {
    report(Kind::kLimit, std::to_string(blocks) + " blocks: the twin runs at most " + std::to_string(kMaxBlocks));
    return false;
  }
  if (threads % 32 != 0) {
    report(Kind::kApi, "a block of " + std::to_string(threads) + " threads is not a multiple of 32");
    return false;
  }
  return true;
}

// Copies may touch device memory and pinned host memory only; checked when called and again when run.
bool copy_side_ok(const void* p, size_t n, const char* when) {
  if (in_device(p) || in_pinned(p, n)) return true;
  report(Kind::kApi, std::string("cudaMemcpyAsync on host memory that is not pinned, or past its end, ") + when);
  return false;
}

void run_copy(void* to, const void* from, size_t n, unsigned operation) {
  const bool host_ok = copy_side_ok(to, n, "when it ran") && copy_side_ok(from, n, "when it ran");
  const bool source_ok = touch_device(from, n, false, operation, "cudaMemcpyAsync source");
  const bool target_ok = touch_device(to, n, true, operation, "cudaMemcpyAsync destination");
  if (!host_ok || !source_ok || !target_ok) return;
  const OpenArena open;
  std::memcpy(to, from, n);
}

bool overlap(const void* a, const void* b, size_t n) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return n > 0 && x < y + n && y < x + n;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::unique_ptr<KernelCall> call) {
  initialise();
  if (!valid_shape(config.gridDim, config.blockDim)) return fail(cudaErrorInvalidConfiguration);
  const auto attribute = kernels_with_much_shared.find(kernel);
  const bool much = attribute != kernels_with_much_shared.end();
  if (config.dynamicSmemBytes > (much ? attribute->second : kDefaultShared)) return fail(cudaErrorInvalidValue);
  std::shared_ptr<KernelCall> shared(std::move(call));
  const Grid grid{config.gridDim,
                  config.blockDim,
                  config.dynamicSmemBytes,
                  much ? kMaxShared : kDefaultShared,
                  shared.get(),
                  kernel,
                  0};
  return submit(
      config.stream,
      [grid, shared](unsigned operation) {
        Grid g = grid;
        g.operation = operation;
        run_grid(g);
      },
      "kernel");
}

}  // namespace twin

extern "C" {

using twin::fail;
using twin::Kind;
using twin::report;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    report(Kind::kApi, "cudaFuncSetAttribute with an attribute that the twin does not know");
    return fail(cudaErrorInvalidValue);
  }
  if (value < 0 || static_cast<unsigned>(value) > twin::kMaxShared) return fail(cudaErrorInvalidValue);
  twin::kernels_with_much_shared[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) report(Kind::kApi, "a stream that waits for the default stream");
  *stream = twin::make_stream();
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!twin::usable(stream, "cudaStreamDestroy")) return fail(cudaErrorInvalidResourceHandle);
  twin::wait_on_host(twin::now_in(stream));
  stream->destroyed = true;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!twin::usable(stream, "cudaStreamSynchronize")) return fail(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    report(Kind::kApi, "cudaStreamSynchronize during a capture");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  twin::wait_on_host(twin::now_in(stream));
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t stream) {
  *p = nullptr;
  if (!twin::usable(stream, "cudaMallocAsync")) return fail(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    report(Kind::kApi, "cudaMallocAsync during a capture");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  if (bytes == 0) return cudaSuccess;
  const unsigned operation = twin::enqueue(stream, nullptr);
  *p = twin::allocate_device(bytes, operation);
  return *p ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  if (!p) return cudaSuccess;
  if (!twin::usable(stream, "cudaFreeAsync")) return fail(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    report(Kind::kApi, "cudaFreeAsync during a capture");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  twin::Allocation* allocation = twin::allocation_at(p);
  if (!allocation) {
    report(Kind::kApi, "cudaFreeAsync of something that is not a live allocation");
    return fail(cudaErrorInvalidValue);
  }
  allocation->freed_by = twin::enqueue(stream, [allocation](unsigned) { twin::release_device(allocation); });
  return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* props) {
  if (props->allocType != cudaMemAllocationTypePinned || props->location.type != cudaMemLocationTypeDevice) {
    report(Kind::kApi, "cudaMemPoolCreate for something else than memory of a device");
    return fail(cudaErrorInvalidValue);
  }
  *pool = new CUmemPoolHandle_st;
  return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  delete pool;
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute != cudaMemPoolAttrReleaseThreshold) return fail(cudaErrorNotSupported);
  pool->release_threshold = *static_cast<const uint64_t*>(value);
  return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute != cudaMemPoolAttrReservedMemCurrent) return fail(cudaErrorNotSupported);
  *static_cast<uint64_t*>(value) = pool->reserved;
  return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** p, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  const cudaError_t error = cudaMallocAsync(p, bytes, stream);
  if (error == cudaSuccess) pool->reserved += bytes;
  return error;
}

cudaError_t cudaMallocHost(void** p, size_t bytes) {
  *p = bytes ? twin::allocate_pinned(bytes) : nullptr;
  return !bytes || *p ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* p) {
  if (!p || twin::free_pinned(p)) return cudaSuccess;
  report(Kind::kApi, "cudaFreeHost of something that is not a pinned allocation");
  return fail(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind kind, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  twin::copy_side_ok(to, n, "when called");
  twin::copy_side_ok(from, n, "when called");
  const bool to_device = twin::in_device(to), from_device = twin::in_device(from);
  const cudaMemcpyKind actual = to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                                          : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  if (kind != actual && kind != cudaMemcpyDefault) report(Kind::kApi, "cudaMemcpyAsync with the wrong direction");
  if (twin::overlap(to, from, n)) report(Kind::kApi, "cudaMemcpyAsync between ranges that overlap");
  return twin::submit(
      stream, [=](unsigned operation) { twin::run_copy(to, from, n, operation); }, "cudaMemcpyAsync");
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  if (!twin::in_device(p)) {
    report(Kind::kApi, "cudaMemsetAsync on host memory");
    return fail(cudaErrorInvalidValue);
  }
  return twin::submit(
      stream,
      [=](unsigned operation) {
        if (!twin::touch_device(p, n, true, operation, "cudaMemsetAsync")) return;
        const twin::OpenArena open;
        std::memset(p, value, n);
      },
      "cudaMemsetAsync");
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) {
    report(Kind::kApi, "cudaMemcpy2DAsync with rows longer than their distance");
    return fail(cudaErrorInvalidValue);
  }
  for (size_t row = 0; row < height; ++row) {
    const cudaError_t error = cudaMemcpyAsync(static_cast<char*>(to) + row * to_pitch,
                                              static_cast<const char*>(from) + row * from_pitch, width, kind, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaMemset2DAsync(void* p, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  if (width > pitch) {
    report(Kind::kApi, "cudaMemset2DAsync with rows longer than their distance");
    return fail(cudaErrorInvalidValue);
  }
  for (size_t row = 0; row < height; ++row) {
    const cudaError_t error = cudaMemsetAsync(static_cast<char*>(p) + row * pitch, value, width, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return fail(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "twin");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = twin::kDeviceBytes;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return twin::last_error(true); }
cudaError_t cudaPeekAtLastError() { return twin::last_error(false); }
const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "error of the twin"; }
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    default:
      return "cudaErrorUnknown";
  }
}
}
