#include "kernels/ops/weight_panels.h"

#include "kernels/ops/gemm_cache.h"
#include "tests/kernels/test_store.h"

#include <cstring>

namespace deepflow::testing {
namespace {

struct Forms {
  Tensor forward, input_grad;
  Forms(OpBench& bench, int64_t out, int64_t in)
      : forward(bench.empty({out * in}, DType::kBF16)), input_grad(bench.empty({out * in}, DType::kBF16)) {}
  WeightPanels panels(int64_t out, int64_t in) { return {out, in, forward.data<BF16>(), input_grad.data<BF16>()}; }
};

BF16 at(const Tensor& panels, int64_t rows, int64_t k, int64_t n) {
  return panels.data<BF16>()[n / 64 * rows * 64 + k / 2 * 128 + n % 64 * 2 + k % 2];
}

TEST(WeightPanels, HoldEveryElementWhereTheContractSaysOnEveryInstructionSet) {
  constexpr int64_t kOut = 192, kRows = 150, kIn = 320;  // the last rows are padding
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kBF16, {.cpu_isa = isa});
    const Tensor w = bench.normal("w", {kOut, kIn}, DType::kF32);
    Forms forms(bench, kOut, kIn);
    const WeightPanels panels = forms.panels(kOut, kIn);
    // In tiles, in another order, as an optimizer's threads come to them.
    for (int64_t col = kIn - 64; col >= 0; col -= 64)
      for (const int64_t row : {128, 0, 64})
        write_panels(bench.runtime, w.data<float>(), panels, row, std::min<int64_t>(64, kRows - row), col, 64);
    for (int64_t r = 0; r < kOut; ++r)
      for (int64_t c = 0; c < kIn; ++c) {
        const uint16_t expected = to_bf16(r < kRows ? w.data<float>()[r * kIn + c] : 0.0f).bits;
        ASSERT_EQ(at(forms.forward, kIn, c, r).bits, expected) << name_of(isa) << " " << r << " " << c;
        ASSERT_EQ(at(forms.input_grad, kOut, r, c).bits, expected) << name_of(isa) << " " << r << " " << c;
      }
  }
}

TEST(WeightPanels, AreTheBytesOfThePackedFormsWhereverTheyClaimToBe) {
  OpBench bench(DType::kBF16);
  int checked = 0;
  for (const auto& [out, in] :
       {std::pair<int64_t, int64_t>{64, 64}, {2304, 768}, {192, 3072}, {960, 576}, {128, 1024}}) {
    const Tensor w = bench.normal("w", {out, in}, DType::kF32);
    Forms forms(bench, out, in);
    write_panels(bench.runtime, w.data<float>(), forms.panels(out, in), 0, out, 0, in);
    for (const Form form : {Form::kForward, Form::kInputGrad}) {
      if (!lies_in_panels(bench.runtime, DType::kBF16, out, in, form)) continue;
      ++checked;
      ASSERT_EQ(packed_weight_bytes(bench.runtime, DType::kBF16, out, in, form), static_cast<size_t>(out * in * 2));
      Tensor packed = bench.empty({out * in * 2}, DType::kU8);
      const bool forward = form == Form::kForward;  // oneDNN's own reorder
      GemmCache::of(bench.runtime)
          .pack(bench.runtime, DType::kBF16, forward ? in : out, forward ? out : in, w.raw(), DType::kF32, in, forward,
                packed.raw());
      const Tensor& mine = form == Form::kForward ? forms.forward : forms.input_grad;
      EXPECT_EQ(std::memcmp(mine.raw(), packed.raw(), packed.num_bytes()), 0) << out << " " << in;
    }
  }
  // For bf16 products with AVX-512 oneDNN asks for panels; for those with AMX it may ask for something else, and
  // without either it reorders: then there is nothing to compare.
  if (!bench.runtime.cpu().amx_bf16) {
    EXPECT_EQ(checked > 0, bench.runtime.isa() == CpuIsa::kAvx512Bf16);
  }
  if (checked == 0) GTEST_SKIP() << "oneDNN asks for no panels on this CPU";
}

TEST(OperandPanels, AreTheBytesOfOneDnnsOwnReorderForAnyRowStride) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kBF16, {.cpu_isa = isa});
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{64, 64}, {96, 192}, {1024, 768}}) {
      const Tensor wide = bench.normal("x", {rows, cols + 40}, DType::kBF16), x = wide.column_range(8, 8 + cols);
      Tensor mine = bench.empty({rows * cols}, DType::kBF16);
      write_operand_panels(bench.runtime, x, mine.data<BF16>());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c)
          ASSERT_EQ(at(mine, rows, r, c).bits, x.data<BF16>()[r * x.ld() + c].bits) << name_of(isa) << r << " " << c;
      if (!operand_lies_in_panels(bench.runtime, rows, cols)) continue;
      Tensor packed = bench.empty({rows * cols * 2}, DType::kU8);
      GemmCache::of(bench.runtime)
          .pack(bench.runtime, DType::kBF16, rows, cols, x.raw(), DType::kBF16, x.ld(), false, packed.raw());
      EXPECT_EQ(std::memcmp(mine.raw(), packed.raw(), packed.num_bytes()), 0) << rows << " " << cols;
    }
    EXPECT_FALSE(operand_lies_in_panels(bench.runtime, 63, 64));
  }
}

TEST(WeightPanels, AreNotClaimedForPaddedExtentsOrOtherDtypes) {
  OpBench bench(DType::kBF16);
  for (const Form form : {Form::kForward, Form::kInputGrad}) {
    EXPECT_FALSE(lies_in_panels(bench.runtime, DType::kF32, 128, 128, form));
    EXPECT_FALSE(lies_in_panels(bench.runtime, DType::kBF16, 100, 128, form));
    EXPECT_FALSE(lies_in_panels(bench.runtime, DType::kBF16, 128, 100, form));
  }
}

}  // namespace
}  // namespace deepflow::testing
