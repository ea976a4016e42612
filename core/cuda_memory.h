#pragma once

#include "core/memory.h"
#include "core/stream.h"

#include <cstddef>
#include <memory>

namespace deepflow {

// Device memory in the order of one stream, which must outlive it: a block may be used by work that is enqueued on
// `stream` after allocate and before free, or is ordered so by events. Blocks come from a memory pool of the driver
// that keeps what it got from the system (cudaMallocAsync), so a steady state asks the system for nothing.
std::unique_ptr<Allocator> make_cuda_allocator(Stream& stream);

// Page-locked host memory, the only kind that asynchronous copies may use. Getting and freeing it is slow: for buffers
// that live long. Free a block only after the copies that use it are over.
std::unique_ptr<Allocator> make_pinned_allocator();

// Enqueues a copy between device memory and device or pinned memory.
void copy_async(void* to, const void* from, size_t bytes, Stream& stream);

}  // namespace deepflow
