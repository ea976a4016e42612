#include "core/cuda_stream.h"

#include "core/cuda_check.h"
#include "core/cuda_device.h"

namespace deepflow {
namespace {

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(cudaStream_t stream) {
    check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
    const cudaError_t error = cudaEventRecord(event_, stream);
    if (error == cudaSuccess) return;
    cudaEventDestroy(event_);
    throw_cuda_error(error, "recording an event");
  }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void wait_host() override { check_cuda(cudaEventSynchronize(event_), "waiting for an event"); }
  cudaEvent_t native() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(int device) : device_{DeviceType::kCuda, device} {
    use_cuda_device(device);
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  }
  ~CudaStream() override {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  Device device() const override { return device_; }
  void* native() const override { return stream_; }
  std::shared_ptr<Event> record() override { return std::make_shared<CudaEvent>(stream_); }
  void wait(Event& event) override {
    if (const auto* of_cuda = dynamic_cast<const CudaEvent*>(&event)) {
      check_cuda(cudaStreamWaitEvent(stream_, of_cuda->native(), 0), "ordering a stream behind an event");
    } else {
      event.wait_host();
    }
  }
  void synchronize() override { check_cuda(cudaStreamSynchronize(stream_), "work on the GPU"); }

 private:
  Device device_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Stream> make_cuda_stream(int device) { return std::make_unique<CudaStream>(device); }

}  // namespace deepflow
