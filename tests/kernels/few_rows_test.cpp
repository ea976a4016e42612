#include "kernels/ops/few_rows.h"

#include "kernels/cpu/few_rows.h"
#include "kernels/ops/gemm_cache.h"
#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

using cpu::kFewRows;
using cpu::kPanelColumns;

using Case = IsaAndDtype;

class FewRows : public ::testing::TestWithParam<Case> {};
// f16 weights are packed as f32.
std::vector<Case> every_isa_and_panel_dtype() {
  std::vector<Case> cases = every_isa_and_dtype();
  std::erase_if(cases, [](const Case& c) { return c.dtype == DType::kF16; });
  return cases;
}
INSTANTIATE_TEST_SUITE_P(All, FewRows, ::testing::ValuesIn(every_isa_and_panel_dtype()), [](const auto& c) {
  return std::string(name_of(c.param.isa)) + "_" + name_of(c.param.dtype);
});

// W [n, k] as panels of 64 columns of its transpose, k padded with zeros to a multiple of 32.
template <class T>
std::vector<T> panels_of(const Tensor& w) {
  constexpr int64_t kDepth = 4 / sizeof(T);
  const int64_t n = w.rows(), k = w.cols(), padded = (k + 31) / 32 * 32, count = (n + 63) / 64;
  std::vector<T> packed(static_cast<size_t>(count * padded * kPanelColumns));
  for (int64_t column = 0; column < n; ++column)
    for (int64_t i = 0; i < k; ++i) {
      const int64_t panel = column / kPanelColumns * padded * kPanelColumns;
      const int64_t step = i / kDepth * kPanelColumns * kDepth, lane = column % kPanelColumns * kDepth + i % kDepth;
      packed[static_cast<size_t>(panel + step + lane)] = w.data<T>()[column * w.ld() + i];
    }
  return packed;
}

template <class T>
void run_kernel(const OpBench& bench, const Tensor& x, const Tensor& w, const Tensor* bias, Tensor& y) {
  const std::vector<T> panels = panels_of<T>(w);
  const int64_t count = (w.rows() + 63) / 64, bytes = static_cast<int64_t>(panels.size() * sizeof(T)) / count;
  const cpu::FewRows a{x.raw(),       x.ld(),    x.rows(), x.cols(),
                       panels.data(), bytes,     w.rows(), bias ? bias->data<float>() : nullptr,
                       y.raw(),       y.dtype(), y.ld()};
  DF_KERNEL(bench.runtime.isa(), few_rows<T>)(a, 0, count);
}

void run_kernel_of(const OpBench& bench, const Tensor& x, const Tensor& w, const Tensor* bias, Tensor& y) {
  if (x.dtype() == DType::kBF16)
    run_kernel<BF16>(bench, x, w, bias, y);
  else
    run_kernel<float>(bench, x, w, bias, y);
}

std::vector<double> reference(const Tensor& x, const Tensor& w, const Tensor* bias) {
  const std::vector<double> a = values_of(x), b = values_of(w);
  std::vector<double> y;
  const auto k = static_cast<size_t>(x.cols());
  for (size_t r = 0; r < static_cast<size_t>(x.rows()); ++r)
    for (size_t j = 0; j < static_cast<size_t>(w.rows()); ++j) {
      double sum = bias ? static_cast<double>(bias->data<float>()[j]) : 0.0;
      for (size_t i = 0; i < k; ++i) sum += a[r * k + i] * b[j * k + i];
      y.push_back(sum);
    }
  return y;
}

TEST_P(FewRows, KernelMatchesDoubleReference) {
  OpBench bench(GetParam().dtype, {.threads = 1, .cpu_isa = GetParam().isa});
  const DType dtype = GetParam().dtype;
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {64, 64}, {65, 33}, {200, 257}, {130, 700}}) {
    const Tensor w = bench.normal("w", {n, k}, dtype), bias = bench.normal("bias", {n}, DType::kF32);
    for (const int64_t rows : {1, 2, 3, 4, 5, 8, 11, 16})
      for (const DType y_dtype : {DType::kF32, dtype})
        for (const Tensor* b : {static_cast<const Tensor*>(nullptr), &bias}) {
          const Tensor x = bench.normal("x", {rows, k + 8}, dtype).column_range(8, 8 + k);
          Tensor wide = bench.empty({rows, n + 5}, y_dtype);
          fill(bench.runtime, wide, 7);
          Tensor y = wide.column_range(0, n);
          run_kernel_of(bench, x, w, b, y);
          EXPECT_LT(relative_error(values_of(y), reference(x, w, b)), y_dtype == DType::kBF16 ? 4e-3 : 2e-6)
              << rows << " rows, " << n << " x " << k;
          for (const double v : values_of(wide.column_range(n, n + 5))) ASSERT_EQ(v, 7);
        }
  }
}

TEST_P(FewRows, ARowHasTheSameBitsWhateverStandsBesideIt) {
  OpBench bench(GetParam().dtype, {.threads = 1, .cpu_isa = GetParam().isa});
  const Tensor w = bench.normal("w", {130, 257}, GetParam().dtype);
  const Tensor x = bench.normal("x", {kFewRows, 257}, GetParam().dtype);
  Tensor all = bench.empty({kFewRows, 130}, DType::kF32);
  run_kernel_of(bench, x, w, nullptr, all);
  for (int64_t rows = 1; rows < kFewRows; ++rows) {
    Tensor y = bench.empty({rows, 130}, DType::kF32);
    run_kernel_of(bench, x.row_range(kFewRows - rows, kFewRows), w, nullptr, y);
    EXPECT_EQ(values_of(y), values_of(all.row_range(kFewRows - rows, kFewRows))) << rows;
  }
}

// In panels of 64 columns is how oneDNN packs where it has AVX-512; else its own products serve.
TEST(FewRowsProduct, ServesPackedWeightsWithTheSameBitsForAnyThreadsAndRows) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    std::vector<double> first;
    for (const int threads : {1, 2, 3}) {
      OpBench bench(dtype, {.threads = threads});
      const Tensor w = bench.normal("w", {320, 130}, DType::kF32), bias = bench.normal("bias", {320}, DType::kF32);
      const auto bytes = packed_weight_bytes(bench.runtime, dtype, 320, 130, Form::kForward);
      Tensor packed = bench.empty({static_cast<int64_t>(bytes)}, DType::kU8);
      pack_weight(bench.runtime, w, dtype, Form::kForward, packed);
      GemmCache& cache = GemmCache::of(bench.runtime);
      if (cache.panel_bytes(dtype, 130, 320) == 0) GTEST_SKIP() << "another layout on this CPU";
      const Tensor x = bench.normal("x", {kFewRows + 1, 130}, dtype);
      const auto rounded = bench.cast(w, dtype);
      for (int64_t rows = 1; rows <= kFewRows; ++rows) {
        Tensor y = bench.empty({rows, 320}, DType::kF32);
        ASSERT_TRUE(few_rows_product(bench.runtime, cache, x.row_range(0, rows), packed, 320, &bias, y));
        EXPECT_LT(relative_error(values_of(y), reference(x.row_range(0, rows), rounded, &bias)), 1e-6);
        if (first.empty()) first = values_of(y);
        EXPECT_EQ(values_of(y.row_range(0, 1)), first) << threads << " threads, " << rows << " rows";
      }
      Tensor y = bench.empty({kFewRows + 1, 320}, DType::kF32);
      EXPECT_FALSE(few_rows_product(bench.runtime, cache, x, packed, 320, &bias, y));
    }
  }
}

}  // namespace
}  // namespace deepflow::testing
