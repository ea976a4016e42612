#include "core/cuda_device.h"
#include "core/cuda_memory.h"
#include "core/cuda_stream.h"
#include "core/error.h"

// The CUDA side of core in a build without nvcc.
namespace deepflow {
namespace {

[[noreturn]] void refuse() {
  throw DeviceError("CUDA: this build has none; configure it where nvcc is found, or use the CPU");
}

}  // namespace

CudaInventory find_cuda_devices() { return {{}, "no GPU: this build has no CUDA"}; }
void use_cuda_device(int) { refuse(); }
std::unique_ptr<Stream> make_cuda_stream(int) { refuse(); }
std::unique_ptr<Allocator> make_cuda_allocator(Stream&) { refuse(); }
std::unique_ptr<Allocator> make_pinned_allocator() { refuse(); }
void copy_async(void*, const void*, size_t, Stream&) { refuse(); }

}  // namespace deepflow
