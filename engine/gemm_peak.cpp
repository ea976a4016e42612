#include "engine/gemm_peak.h"

#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"

#include <algorithm>
#include <chrono>

namespace deepflow {

double measure_gemm_peak(Runtime& runtime, DType dtype, double seconds) {
  constexpr int64_t kRows = 512, kIn = 768, kOut = 1536;
  using Clock = std::chrono::steady_clock;
  Tensor master = Tensor::empty(runtime.memory(), {kOut, kIn}, DType::kF32);
  Tensor x = Tensor::empty(runtime.memory(), {kRows, kIn}, dtype),
         y = Tensor::empty(runtime.memory(), {kRows, kOut}, dtype);
  fill(runtime, master, 0.5f);
  fill(runtime, x, 0.25f);
  Tensor packed =
      Tensor::empty(runtime.memory(),
                    {static_cast<int64_t>(packed_weight_bytes(runtime, dtype, kOut, kIn, Form::kForward))}, DType::kU8);
  pack_weight(runtime, master, dtype, Form::kForward, packed);
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto begin = Clock::now();
    matmul_forward(runtime, x, packed, kOut, nullptr, y);
    const double t = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, 2.0 * kRows * kIn * kOut / t);
  } while (Clock::now() < end);
  return best;
}

}  // namespace deepflow
