#include "kernels/ops/int8_matmul.h"

#include "kernels/cpu/int8_matmul.h"
#include "tests/kernels/test_store.h"

#include <cstring>
#include <limits>

namespace deepflow::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

struct Extents {
  int64_t m, n, k;
};
// One row, blocks of k and panels of n that are not full, register tiles that are not full.
const Extents kExtents[] = {{1, 1, 1},     {1, 64, 256},  {2, 3, 5},      {7, 70, 50},     {6, 128, 512},
                            {50, 65, 257}, {97, 31, 259}, {13, 200, 770}, {100, 192, 1030}};

Tensor packed_form(OpBench& bench, const Tensor& w, Form form) {
  const auto bytes = static_cast<int64_t>(packed_weight_bytes(bench.runtime, DType::kBF16, w.rows(), w.cols(), form));
  Tensor packed = bench.empty({bytes}, DType::kU8);
  std::memset(packed.raw(), 0x5a, packed.num_bytes());
  pack_weight(bench.runtime, w, DType::kBF16, form, packed);
  return packed;
}

// What the contract says of a run of at most kInt8Block elements.
struct Block {
  std::vector<int> q;
  float scale = 0;
};
Block quantized(const std::vector<float>& x) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  Block b{std::vector<int>(x.size()), largest < 1e-30f ? 0 : largest / 127.0f};
  const float inverse = largest < 1e-30f ? 0 : 127.0f / largest;
  for (size_t i = 0; i < x.size(); ++i) b.q[i] = static_cast<int>(std::nearbyint(x[i] * inverse));
  return b;
}

std::vector<Block> blocks_of(int64_t k, const std::function<float(int64_t)>& at) {
  std::vector<Block> blocks;
  for (int64_t begin = 0; begin < k; begin += cpu::kInt8Block) {
    std::vector<float> run;
    for (int64_t l = begin; l < std::min(begin + cpu::kInt8Block, k); ++l) run.push_back(at(l));
    blocks.push_back(quantized(run));
  }
  return blocks;
}

// x [m, k] w^T [k, n] + bias as the contract rounds it, to the last bit.
std::vector<double> reference(const Tensor& x, const Tensor& w, const Tensor* bias) {
  const int64_t k = x.cols();
  std::vector<std::vector<Block>> rows, columns;
  for (int64_t i = 0; i < x.rows(); ++i)
    rows.push_back(blocks_of(k, [&](int64_t l) { return to_float(x.data<BF16>()[i * x.ld() + l]); }));
  for (int64_t j = 0; j < w.rows(); ++j)
    columns.push_back(blocks_of(k, [&](int64_t l) { return w.data<float>()[j * k + l]; }));
  std::vector<double> y;
  for (const auto& row : rows)
    for (size_t j = 0; j < columns.size(); ++j) {
      float sum = bias ? bias->data<float>()[j] : 0;
      for (size_t b = 0; b < row.size(); ++b) {
        int dot = 0;
        for (size_t l = 0; l < row[b].q.size(); ++l) dot += row[b].q[l] * columns[j][b].q[l];
        sum = std::fma(static_cast<float>(dot), row[b].scale * columns[j][b].scale, sum);
      }
      y.push_back(to_float(to_bf16(sum)));
    }
  return y;
}

TEST(Int8Matmul, IsTheIntegerProductOnEveryInstructionSet) {
  for (const CpuIsa isa : runnable_isas())
    for (const Extents& e : kExtents) {
      OpBench bench(DType::kBF16, {.threads = 2, .cpu_isa = isa});
      const Tensor x = bench.normal("x", {e.m, e.k}, DType::kBF16), w = bench.normal("w", {e.n, e.k}, DType::kF32);
      const Tensor bias = bench.normal("b", {e.n}, DType::kF32);
      Tensor y = bench.empty({e.m, e.n}, DType::kBF16);
      const Tensor packed = packed_form(bench, w, Form::kForwardInt8);
      int8_matmul_forward(bench.runtime, x, packed, e.n, &bias, y);
      EXPECT_EQ(values_of(y), reference(x, w, &bias)) << name_of(isa) << " " << e.m << " " << e.n << " " << e.k;
      int8_matmul_forward(bench.runtime, x, packed, e.n, nullptr, y);
      EXPECT_EQ(values_of(y), reference(x, w, nullptr)) << name_of(isa) << " " << e.m << " " << e.n << " " << e.k;
    }
}

// With and without VNNI: the largest numbers of either sign, where 16 bits would saturate.
TEST(Int8Matmul, ExtremeNumbersAreExactWithAndWithoutVnni) {
  constexpr int64_t kRows = 9, kColumns = 64, kK = 300;
  OpBench bench;
  Tensor w = bench.empty({kColumns, kK}, DType::kF32), x = bench.empty({kRows, kK}, DType::kBF16);
  for (int64_t i = 0; i < w.num_elements(); ++i) w.data<float>()[i] = i / kK % 2 ? 1.0f : -1.0f;
  for (int64_t i = 0; i < x.num_elements(); ++i) x.data<BF16>()[i] = to_bf16(i / kK % 3 ? 1.0f : -1.0f);
  const Tensor packed = packed_form(bench, w, Form::kForwardInt8);
  const std::vector<double> expected = reference(x, w, nullptr);
  Tensor q = bench.empty({kRows, cpu::int8_row_bytes(kK)}, DType::kU8),
         scales = bench.empty({kRows, cpu::num_int8_blocks(kK)}, DType::kF32),
         y = bench.empty({kRows, kColumns}, DType::kBF16);
  for (const CpuIsa isa : runnable_isas())
    for (const bool vnni : {false, true}) {
      if (vnni && !bench.runtime.cpu().avx512_vnni) continue;
      DF_KERNEL(isa, quantize_int8_rows)(x.data<BF16>(), kRows, kK, kK, q.data<uint8_t>(), scales.data<float>());
      DF_KERNEL(isa, multiply_int8)
      (q.data<uint8_t>(), scales.data<float>(), kRows, kK, packed.data<uint8_t>(), kColumns, nullptr, y.data<BF16>(),
       kColumns, vnni);
      EXPECT_EQ(values_of(y), expected) << name_of(isa) << vnni;
    }
}

TEST(Int8Matmul, QuantisationIsWithinHalfAScaleOfTheElement) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kBF16, {.cpu_isa = isa});
    constexpr int64_t kRows = 5, kK = 700;
    Tensor x = bench.normal("x", {kRows, kK}, DType::kBF16);
    x.data<BF16>()[3] = to_bf16(1000.0f);  // an outlier spoils its own block only
    std::vector<uint8_t> q(static_cast<size_t>(kRows * cpu::int8_row_bytes(kK)));
    std::vector<float> scales(static_cast<size_t>(kRows * cpu::num_int8_blocks(kK)));
    DF_KERNEL(isa, quantize_int8_rows)(x.data<BF16>(), kRows, kK, kK, q.data(), scales.data());
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t l = 0; l < kK; ++l) {
        const float scale = scales[static_cast<size_t>(i * 3 + l / cpu::kInt8Block)];
        const int number = q[static_cast<size_t>(i * cpu::int8_row_bytes(kK) + l)] - 128;
        EXPECT_LE(std::abs(number), 127);
        EXPECT_NEAR(static_cast<float>(number) * scale, to_float(x.data<BF16>()[i * kK + l]), 0.5001f * scale);
        EXPECT_LE(scale, i == 0 && l < cpu::kInt8Block ? 1001.0f / 127 : 6.0f / 127);
      }
  }
}

// The form for dy W is the form for x W^T of the transposed weight.
TEST(Int8Matmul, BothFormsHoldTheSameNumbers) {
  for (const CpuIsa isa : runnable_isas())
    for (const Extents& e : kExtents) {
      OpBench bench(DType::kBF16, {.cpu_isa = isa});
      const Tensor w = bench.normal("w", {e.n, e.k}, DType::kF32);
      Tensor transposed = bench.empty({e.k, e.n}, DType::kF32);
      for (int64_t i = 0; i < e.n; ++i)
        for (int64_t j = 0; j < e.k; ++j) transposed.data<float>()[j * e.n + i] = w.data<float>()[i * e.k + j];
      const Tensor a = packed_form(bench, w, Form::kForwardInt8);
      const Tensor b = packed_form(bench, transposed, Form::kInputGradInt8);
      ASSERT_EQ(a.num_bytes(), b.num_bytes());
      EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.num_bytes()), 0) << name_of(isa) << " " << e.n << " " << e.k;
    }
}

TEST(Int8Matmul, InputGradientIsCloseToTheBf16One) {
  OpBench bench(DType::kBF16);
  for (const int64_t rows : {1, 37, 400}) {
    const Tensor w = bench.normal("w", {300, 520}, DType::kF32), dy = bench.normal("dy", {rows, 300}, DType::kBF16);
    Tensor exact = bench.empty({rows, 520}, DType::kBF16), dx = bench.empty({rows, 520}, DType::kBF16);
    matmul_input_grad(bench.runtime, dy, packed_form(bench, w, Form::kInputGrad), 520, exact);
    int8_matmul_input_grad(bench.runtime, dy, packed_form(bench, w, Form::kInputGradInt8), 520, dx);
    EXPECT_LT(relative_error(values_of(dx), values_of(exact)), 0.02);
  }
}

TEST(Int8Matmul, DoesNotDependOnThreadsOrOtherRows) {
  OpBench one(DType::kBF16, {.threads = 1}), three(DType::kBF16, {.threads = 3});
  const Tensor w = one.normal("w", {200, 300}, DType::kF32), x = one.normal("x", {400, 300}, DType::kBF16);
  const Tensor packed = packed_form(one, w, Form::kForwardInt8);
  Tensor y1 = one.empty({400, 200}, DType::kBF16), y3 = one.empty({400, 200}, DType::kBF16);
  int8_matmul_forward(one.runtime, x, packed, 200, nullptr, y1);
  int8_matmul_forward(three.runtime, x, packed_form(three, w, Form::kForwardInt8), 200, nullptr, y3);
  EXPECT_EQ(values_of(y1), values_of(y3));
  for (const int64_t rows : {1, 20}) {
    Tensor some = one.empty({rows, 200}, DType::kBF16);
    int8_matmul_forward(three.runtime, Tensor::wrap(x.data<BF16>(), {rows, 300}, DType::kBF16), packed, 200, nullptr,
                        some);
    const std::vector<double> all = values_of(y1);
    EXPECT_EQ(values_of(some), std::vector<double>(all.begin(), all.begin() + rows * 200));
  }
}

TEST(Int8Matmul, ZeroRowsAndColumnsGiveTheBias) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kBF16, {.cpu_isa = isa});
    Tensor w = bench.normal("w", {70, 300}, DType::kF32), x = bench.normal("x", {8, 300}, DType::kBF16);
    for (int64_t l = 0; l < 300; ++l) {
      x.data<BF16>()[2 * 300 + l] = to_bf16(0);
      x.data<BF16>()[3 * 300 + l] = to_bf16(1e-38f);  // too small for a scale
      w.data<float>()[66 * 300 + l] = 0;
    }
    Tensor bias = bench.empty({70}, DType::kF32), y = bench.empty({8, 70}, DType::kBF16);
    fill(bench.runtime, bias, 0.5f);
    int8_matmul_forward(bench.runtime, x, packed_form(bench, w, Form::kForwardInt8), 70, &bias, y);
    const std::vector<double> values = values_of(y);
    for (size_t i = 0; i < values.size(); ++i) {
      if (i / 70 == 2 || i / 70 == 3 || i % 70 == 66)
        EXPECT_EQ(values[i], 0.5) << name_of(isa) << " " << i;
      else
        EXPECT_NE(values[i], 0.5);
    }
  }
}

// Never silently a number.
TEST(Int8Matmul, WhatIsNotFiniteComesOutAsNan) {
  for (const CpuIsa isa : runnable_isas())
    for (const float bad : {kNan, -kNan, kInfinity, -kInfinity})
      for (const int64_t place : {0, 255, 256, 299}) {
        OpBench bench(DType::kBF16, {.cpu_isa = isa});
        Tensor w = bench.normal("w", {70, 300}, DType::kF32), x = bench.normal("x", {8, 300}, DType::kBF16);
        x.data<BF16>()[2 * 300 + place] = to_bf16(bad);
        w.data<float>()[66 * 300 + place] = bad;
        for (int64_t l = 0; l < 300; ++l) x.data<BF16>()[5 * 300 + l] = to_bf16(0);  // zero times NaN is NaN
        Tensor y = bench.empty({8, 70}, DType::kBF16);
        int8_matmul_forward(bench.runtime, x, packed_form(bench, w, Form::kForwardInt8), 70, nullptr, y);
        const std::vector<double> values = values_of(y);
        for (size_t i = 0; i < values.size(); ++i)
          EXPECT_EQ(std::isnan(values[i]), i / 70 == 2 || i % 70 == 66) << name_of(isa) << " " << bad << " " << i;

        Tensor dx = bench.empty({8, 300}, DType::kBF16);
        int8_matmul_input_grad(bench.runtime, y, packed_form(bench, w, Form::kInputGradInt8), 300, dx);
        EXPECT_TRUE(std::isnan(values_of(dx)[2 * 300]));
      }
}

}  // namespace
}  // namespace deepflow::testing
