#pragma once

#include "core/device.h"

#include <memory>

namespace deepflow {

// A point in a stream that another stream, or the host, can wait for.
class Event {
 public:
  virtual ~Event() = default;
  virtual void wait_host() = 0;
};

// An ordered queue of work on a device. On the CPU work is done when the call that enqueues it returns,
// so waiting costs nothing; on CUDA it is a non-blocking stream (core/cuda_stream.h).
class Stream {
 public:
  virtual ~Stream() = default;
  virtual Device device() const = 0;
  virtual void* native() const = 0;  // cudaStream_t, null on the CPU
  virtual std::shared_ptr<Event> record() = 0;
  virtual void wait(Event& event) = 0;  // orders later work behind the event
  virtual void synchronize() = 0;
};

std::unique_ptr<Stream> make_cpu_stream();

}  // namespace deepflow
