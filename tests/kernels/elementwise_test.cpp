#include "kernels/ops/elementwise.h"

#include "tests/kernels/test_store.h"

#include <limits>

namespace deepflow::testing {
namespace {

const Shape kShapes[] = {{1}, {3, 5}, {17, 33}, {300, 257}, {0, 8}};

// A block of columns of something wider, so that rows do not lie side by side; the rest is full of 5.
struct Window {
  Window(OpBench& bench, const Shape& shape, DType dtype)
      : whole(bench.empty({shape.rows(), shape.cols() + 9}, dtype)) {
    fill(bench.runtime, whole, 5);
    view = whole.column_range(4, 4 + shape.cols());
  }
  void expect_rest_untouched() const {
    const std::vector<double> v = values_of(whole);
    for (int64_t r = 0; r < whole.rows(); ++r)
      for (int64_t c = 0; c < whole.cols(); ++c)
        if (c < 4 || c >= 4 + view.cols()) {
          ASSERT_EQ(v[static_cast<size_t>(r * whole.cols() + c)], 5);
        }
  }
  Tensor whole, view;
};

float rounded(float x, DType dtype) {
  return dtype == DType::kBF16 ? to_float(to_bf16(x)) : dtype == DType::kF16 ? to_float(to_f16(x)) : x;
}

TEST(Copy, CastsAsTheScalarConversionsDo) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.cpu_isa = isa});
    for (const Shape& shape : kShapes) {
      const Tensor x = bench.normal("x", shape, DType::kF32, 3);
      for (const DType via : {DType::kF32, DType::kBF16, DType::kF16})
        for (const DType to : {DType::kF32, DType::kBF16, DType::kF16}) {
          const Tensor back = bench.cast(bench.cast(bench.cast(x, via), to), DType::kF32);
          for (int64_t i = 0; i < x.num_elements(); ++i)
            ASSERT_EQ(back.data<float>()[i], rounded(rounded(x.data<float>()[i], via), to))
                << name_of(isa) << name_of(via) << name_of(to);
        }
    }
  }
}

TEST(Copy, KeepsSpecialValuesAndRoundsTiesToEven) {
  const float inf = INFINITY, nan = std::nanf(""), largest = std::numeric_limits<float>::max();
  const std::vector<float> values = {0.0f,        -0.0f,       inf,        -inf,         nan,      largest,
                                     1.00390625f, 1.01171875f, 1.0004883f, 65519.0f,     65520.0f, 0x1p-14f,
                                     0x1p-24f,    0x1p-25f,    0x1.8p-24f, -0x1.004p-15f};
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.cpu_isa = isa});
    Tensor x = bench.empty({static_cast<int64_t>(values.size())}, DType::kF32);
    std::copy(values.begin(), values.end(), x.data<float>());
    const Tensor bf16 = bench.cast(x, DType::kBF16), f16 = bench.cast(x, DType::kF16);
    for (size_t i = 0; i < values.size(); ++i) {
      const float b = to_float(bf16.data<BF16>()[i]), h = to_float(f16.data<F16>()[i]);
      if (std::isnan(values[i])) {
        EXPECT_TRUE(std::isnan(b) && std::isnan(h));
      } else {
        EXPECT_EQ(b, rounded(values[i], DType::kBF16)) << values[i];
        EXPECT_EQ(h, rounded(values[i], DType::kF16)) << values[i];
      }
    }
  }
}

// Every f16 and, around the middle between each and the next, what rounds down, what is a tie, and what rounds up.
std::vector<float> all_f16_and_between() {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float low = to_float(F16{static_cast<uint16_t>(bits)});
    const float high = bits + 1 < 0x7c00 ? to_float(F16{static_cast<uint16_t>(bits + 1)}) : 0x1p16f;
    const float middle = low + (high - low) / 2;
    for (const float x : {low, std::nextafter(middle, low), middle, std::nextafter(middle, high)})
      values.insert(values.end(), {x, -x});
  }
  return values;
}

TEST(Copy, ConvertsEveryF16AndWhatLiesBetweenAsTheScalarConversionsDo) {
  const std::vector<float> values = all_f16_and_between();
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.cpu_isa = isa});
    Tensor x = bench.empty({static_cast<int64_t>(values.size())}, DType::kF32);
    std::copy(values.begin(), values.end(), x.data<float>());
    const Tensor narrow = bench.cast(x, DType::kF16);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(narrow.data<F16>()[i].bits, to_f16(values[i]).bits) << name_of(isa) << " " << values[i];

    Tensor all = bench.empty({1 << 16}, DType::kF16);
    for (uint32_t bits = 0; bits < 1 << 16; ++bits) all.data<F16>()[bits].bits = static_cast<uint16_t>(bits);
    const Tensor wide = bench.cast(all, DType::kF32);
    for (uint32_t bits = 0; bits < 1 << 16; ++bits)
      ASSERT_EQ(std::bit_cast<uint32_t>(wide.data<float>()[bits]),
                std::bit_cast<uint32_t>(to_float(F16{static_cast<uint16_t>(bits)})))
          << name_of(isa) << " " << bits;
  }
}

TEST(Elementwise, MatchesScalarArithmeticOnWindowsAndWholeTensors) {
  for (const CpuIsa isa : runnable_isas())
    for (const Shape& shape : kShapes)
      for (const DType dtype : kComputeDtypes)
        for (const DType other : kComputeDtypes) {
          if (dtype != DType::kF32 && other != dtype) continue;
          OpBench bench(DType::kF32, {.cpu_isa = isa});
          const Tensor a = bench.normal("a", shape, dtype), b = bench.normal("b", shape, other);
          const std::vector<double> av = values_of(a), bv = values_of(b);
          for (const bool windowed : {false, true}) {
            Window window(bench, shape, dtype), addend(bench, shape, other);
            Tensor x = windowed ? window.view : bench.empty({shape.rows(), shape.cols()}, dtype);
            copy(bench.runtime, a, x);
            Tensor y = windowed ? addend.view : b;
            if (windowed) copy(bench.runtime, b, y);
            add_into(bench.runtime, x, y);
            scale(bench.runtime, x, 0.375f);
            const std::vector<double> got = values_of(x);
            for (size_t i = 0; i < got.size(); ++i) {
              const float sum = rounded(static_cast<float>(av[i]) + static_cast<float>(bv[i]), dtype);
              ASSERT_EQ(got[i], static_cast<double>(rounded(sum * 0.375f, dtype)));
            }
            fill(bench.runtime, x, -2.5f);
            for (const double v : values_of(x)) ASSERT_EQ(v, -2.5);
            window.expect_rest_untouched();
          }
        }
}

TEST(SumSquares, IsExactToDoubleAndTheSameBitsForAnyNumberOfThreads) {
  constexpr int64_t kElements = 300'007;
  for (const CpuIsa isa : runnable_isas()) {
    double sums[2];
    for (const int threads : {1, 2}) {
      OpBench bench(DType::kF32, {.threads = threads, .cpu_isa = isa});
      const Tensor x = bench.normal("x", {kElements}, DType::kF32);
      sums[threads - 1] = sum_squares(bench.runtime, x);
      double expected = 0;
      for (const double v : values_of(x)) expected += v * v;
      EXPECT_NEAR(sums[threads - 1], expected, 1e-12 * expected);
    }
    EXPECT_EQ(sums[0], sums[1]);
  }
}

TEST(SumSquares, HugeElementsDoNotOverflow) {
  OpBench bench;
  Tensor x = bench.empty({100}, DType::kF32);
  fill(bench.runtime, x, 1e30f);
  EXPECT_NEAR(sum_squares(bench.runtime, x) / 1e62, 1, 1e-6);
}

TEST(AllFinite, FindsOneBadElementAnywhere) {
  for (const CpuIsa isa : runnable_isas())
    for (const DType dtype : kComputeDtypes) {
      OpBench bench(DType::kF32, {.cpu_isa = isa});
      for (const bool windowed : {false, true}) {
        Window window(bench, {40, 777}, dtype);
        const Tensor whole = bench.normal("x", {40, 777}, dtype);
        Tensor x = windowed ? window.view : whole;
        if (windowed) copy(bench.runtime, whole, x);
        EXPECT_TRUE(all_finite(bench.runtime, x));
        for (const auto& [r, c] : {std::pair<int64_t, int64_t>{0, 0}, {39, 776}, {20, 400}})
          for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
            Tensor element = x.row_range(r, r + 1).column_range(c, c + 1);
            fill(bench.runtime, element, bad);
            EXPECT_FALSE(all_finite(bench.runtime, x)) << r << " " << c << " " << bad;
            fill(bench.runtime, element, dtype == DType::kF16 ? 65504.0f : 3e38f);
            EXPECT_TRUE(all_finite(bench.runtime, x));
            fill(bench.runtime, element, 0);
          }
      }
    }
}

TEST(FillNormal, EqualsTheNumbersOfTheirLogicalPlaces) {
  OpBench bench(DType::kF32, {.threads = 2});
  const RandomSite site = random_site(7, "layers.0.q");
  Window window(bench, {90, 41}, DType::kF32);
  fill_normal(bench.runtime, window.view, site, 0.02f, 1000, 13);
  for (int64_t r = 0; r < 90; ++r)
    for (int64_t c = 0; c < 41; ++c)
      ASSERT_EQ(window.view.data<float>()[r * window.view.ld() + c], random_normal(site, 1000 + r, 13 + c) * 0.02f);
  window.expect_rest_untouched();
}

TEST(AccumulateGradient, LeavesATensorThatOthersHoldAsItWas) {
  Runtime runtime({.threads = 1});
  Tensor into = Tensor::empty(runtime.memory(), {2, 3}, DType::kF32),
         x = Tensor::empty(runtime.memory(), {2, 3}, DType::kF32);
  fill(runtime, into, 1);
  fill(runtime, x, 2);
  const Tensor held = into;
  accumulate_gradient(runtime, into, x);
  EXPECT_EQ(held.data<float>()[5], 1);
  EXPECT_EQ(into.data<float>()[5], 3);
  const float* place = into.data<float>();
  accumulate_gradient(runtime, into, x);
  EXPECT_EQ(into.data<float>(), place);
  EXPECT_EQ(place[0], 5);
}

}  // namespace
}  // namespace deepflow::testing
