#pragma once

#include "core/stream.h"

#include <memory>

namespace deepflow {

// A non-blocking CUDA stream on `device`, which becomes the calling thread's GPU. The destructor waits for its work.
// Waiting for an event of another kind of device blocks the host. Throws DeviceError, when it is made and whenever work
// on the GPU turns out to have failed.
std::unique_ptr<Stream> make_cuda_stream(int device);

}  // namespace deepflow
