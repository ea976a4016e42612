#include "tests/kernels/cuda/gpu_test.h"

#ifdef DEEPFLOW_TWIN
#include "tests/twin/twin.h"
#endif

namespace deepflow {

Gpu::Gpu() : stream_(make_cuda_stream(0)), memory_(make_cuda_allocator(*stream_)), pinned_(make_pinned_allocator()) {}

Gpu::~Gpu() {
  for (void* p : blocks_) memory_->free(p);
  EXPECT_EQ(memory_->stats().in_use, 0) << "bytes that nobody freed";
  stream_->synchronize();
}

void Gpu::copy_in(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  void* staging = pinned_->allocate(bytes);
  std::memcpy(staging, host, bytes);
  copy_async(device, staging, bytes, *stream_);
  stream_->synchronize();
  pinned_->free(staging);
}

void Gpu::copy_out(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  void* staging = pinned_->allocate(bytes);
  copy_async(staging, device, bytes, *stream_);
  stream_->synchronize();
  std::memcpy(host, staging, bytes);
  pinned_->free(staging);
}

void repeat(const std::function<Bits(Gpu&)>& body) {
  Bits first;
  for (unsigned seed = 1; seed <= 3; ++seed) {
#ifdef DEEPFLOW_TWIN
    twin::start({seed});
    const size_t live = twin::live_allocations();
#endif
    Bits bits;
    {
      Gpu gpu;
      bits = body(gpu);
    }
    if (seed == 1) first = bits;
    EXPECT_EQ(bits, first) << "run " << seed << " differs from the first";
#ifdef DEEPFLOW_TWIN
    for (const auto& line : twin::take_reports()) ADD_FAILURE() << "seed " << seed << ": " << line;
    EXPECT_EQ(twin::live_allocations(), live);
#endif
    if (testing::Test::HasFailure()) return;
  }
}

std::vector<float> normal(int64_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = distribution(generator);
  return values;
}

std::vector<BF16> normal_bf16(int64_t n, unsigned seed) {
  std::vector<BF16> values;
  for (float v : normal(n, seed)) values.push_back(to_bf16(v));
  return values;
}

}  // namespace deepflow
