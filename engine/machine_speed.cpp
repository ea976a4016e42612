#include "engine/machine_speed.h"

#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kArrayElements = int64_t{32} << 20;  // of all sharers together: 128 MiB
constexpr int64_t kLeastElements = int64_t{2} << 20;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void triad(float* __restrict a, const float* __restrict b, const float* __restrict c, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) a[i] = b[i] + 3.0f * c[i];
}

// The best time of a pass.
template <class F>
double best_seconds(double seconds, F&& pass) {
  double best = INFINITY;
  const double end = now() + seconds;
  do {
    const double begin = now();
    pass();
    best = std::min(best, now() - begin);
  } while (now() < end);
  return best;
}

}  // namespace

MemoryBandwidth measure_memory(Runtime& runtime, bool all_threads, int sharers, double seconds) {
  const int64_t elements = std::max(kLeastElements, kArrayElements / std::max(1, sharers));
  Tensor tensors[3];
  float* p[3];
  for (int i = 0; i < 3; ++i) {
    tensors[i] = Tensor::empty(runtime.memory(), {elements}, DType::kF32);
    fill(runtime, tensors[i], 1);  // by all threads, so that each finds its part in its own memory
    p[i] = tensors[i].data<float>();
  }
  const auto on_threads = [&](auto&& body) {
    if (all_threads)
      runtime.pool().parallel_for(elements, 1024, body);
    else
      body(0, elements);
  };
  const double copy = best_seconds(seconds / 2, [&] {
    on_threads([&](int64_t begin, int64_t end) {
      std::memcpy(p[0] + begin, p[1] + begin, static_cast<size_t>(end - begin) * sizeof(float));
    });
  });
  const double add = best_seconds(
      seconds / 2, [&] { on_threads([&](int64_t begin, int64_t end) { triad(p[0], p[1], p[2], begin, end); }); });
  const double bytes = static_cast<double>(elements) * sizeof(float);
  return {2 * bytes / copy, 3 * bytes / add};
}

double measure_all_reduce(Communicator& comm, int64_t bytes, double seconds) {
  const auto memory = std::make_shared<std::vector<float>>(static_cast<size_t>(bytes) / sizeof(float), 1.0f);
  const Tensor t = Tensor::wrap(memory->data(), {static_cast<int64_t>(memory->size())}, DType::kF32, {}, memory);
  const auto once = [&] {
    comm.barrier("before a measurement")->wait_host();
    const double begin = now();
    comm.all_reduce(t, ReduceOp::kMax, "measurement")->wait_host();
    const double mine = now() - begin;
    return max_doubles(comm, std::span(&mine, 1), "time of a measurement").front();
  };
  const double first = once();  // slower than the others, but all that a slow network has time for
  std::vector<double> times;
  const int repeats = static_cast<int>(std::min(50.0, seconds / std::max(first, 1e-6)));
  times.reserve(static_cast<size_t>(repeats));
  for (int i = 0; i < repeats; ++i) times.push_back(once());
  if (times.empty()) return first;
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace deepflow
