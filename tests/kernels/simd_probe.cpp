#include "tests/kernels/simd_probe.h"

#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {

void apply(Function function, const float* x, float* y, int64_t n) {
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 v = load(x + j, lanes);
    F32 result = v;
    if (function == Function::kExp) result = exp(v);
    if (function == Function::kLog) result = log(v);
    if (function == Function::kTanh) result = tanh(v);
    if (function == Function::kErf) result = erf(v);
    if (function == Function::kSigmoid) result = sigmoid(v);
    if (function == Function::kRoughExp2) result = rough_exp2(v);
    if (function == Function::kRoughReciprocal) result = rough_reciprocal(v);
    if (function == Function::kRoughSigmoid) result = rough_sigmoid(v);
    store(y + j, result, lanes);
  });
}

}  // namespace deepflow::cpu::DF_ISA
