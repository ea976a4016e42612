#include "kernels/cuda/elementwise.h"

#include "kernels/cuda/column_sums.h"
#include "tests/kernels/cuda/gpu_test.h"

#include <cmath>
#include <limits>

namespace deepflow {
namespace {

constexpr int64_t kSizes[] = {1, 3, 4, 257, 1024, 2051};

template <class T>
T rounded(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, BF16>) {
    return to_bf16(x);
  } else {
    return to_f16(x);
  }
}

template <class T>
std::vector<T> values(int64_t n, unsigned seed) {
  std::vector<T> out;
  for (float v : normal(n, seed)) out.push_back(rounded<T>(v));
  return out;
}

template <class T>
void expect_same_bits(const std::vector<T>& got, const std::vector<T>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::memcmp(&got[i], &want[i], sizeof(T)), 0)
        << i << ": " << to_float(got[i]) << " " << to_float(want[i]);
  }
}

template <class From, class To>
void check_convert(int64_t n, int64_t offset) {
  const auto from = values<From>(n + offset, 1);
  std::vector<To> want;
  for (int64_t i = 0; i < n; ++i) want.push_back(rounded<To>(to_float(from[i + offset])));
  repeat([&](Gpu& gpu) {
    To* to = gpu.empty<To>(n);
    cuda::convert(gpu.upload(from) + offset, DTypeOf<From>::value, to, DTypeOf<To>::value, n, gpu.stream());
    const auto got = gpu.download(to, n);
    expect_same_bits(got, want);
    Bits bits;
    bits.add(got);
    return bits;
  });
}

template <class From>
void check_convert_from() {
  for (const int64_t n : kSizes) {
    check_convert<From, float>(n, 0);
    check_convert<From, BF16>(n, 0);
    check_convert<From, F16>(n, 1);
  }
}

TEST(CudaElementwise, ConvertsAsTheCpuDoes) {
  check_convert_from<float>();
  check_convert_from<BF16>();
  check_convert_from<F16>();
}

TEST(CudaElementwise, ConvertsSpecialValues) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> from = {0.0f, -0.0f, inf, -inf, 1e30f, 1.00390625f, 1.01171875f, std::nanf("")};
  repeat([&](Gpu& gpu) {
    BF16* to = gpu.empty<BF16>(8);
    cuda::convert(gpu.upload(from), DType::kF32, to, DType::kBF16, 8, gpu.stream());
    const auto got = gpu.download(to, 8);
    for (int i = 0; i < 7; ++i) EXPECT_EQ(got[i].bits, to_bf16(from[i]).bits) << from[i];
    EXPECT_TRUE(std::isnan(to_float(got[7])));
    return Bits();
  });
}

template <class Into, class X>
void check_accumulate(int64_t n) {
  const auto into = values<Into>(n, 1);
  const auto x = values<X>(n, 2);
  std::vector<Into> want;
  for (int64_t i = 0; i < n; ++i) want.push_back(rounded<Into>(to_float(into[i]) + to_float(x[i])));
  repeat([&](Gpu& gpu) {
    Into* p = gpu.upload(into);
    cuda::accumulate(p, DTypeOf<Into>::value, gpu.upload(x), DTypeOf<X>::value, n, gpu.stream());
    expect_same_bits(gpu.download(p, n), want);
    return Bits();
  });
}

TEST(CudaElementwise, Accumulates) {
  for (const int64_t n : kSizes) {
    check_accumulate<float, float>(n);
    check_accumulate<float, BF16>(n);
    check_accumulate<BF16, float>(n);
    check_accumulate<BF16, BF16>(n);
  }
}

template <class T>
void check_scale_and_fill(int64_t n) {
  const auto x = values<T>(n, 1);
  std::vector<T> scaled;
  for (const T v : x) scaled.push_back(rounded<T>(to_float(v) * 0.3f));
  repeat([&](Gpu& gpu) {
    T* p = gpu.upload(x);
    cuda::scale(p, DTypeOf<T>::value, n, 0.3f, gpu.stream());
    expect_same_bits(gpu.download(p, n), scaled);
    T* q = gpu.empty<T>(n);
    cuda::fill(q, DTypeOf<T>::value, n, 1.7f, gpu.stream());
    expect_same_bits(gpu.download(q, n), std::vector<T>(static_cast<size_t>(n), rounded<T>(1.7f)));
    return Bits();
  });
}

TEST(CudaElementwise, ScalesAndFills) {
  for (const int64_t n : kSizes) {
    check_scale_and_fill<float>(n);
    check_scale_and_fill<BF16>(n);
  }
}

TEST(CudaElementwise, CopiesRowsAndLeavesTheGapsAlone) {
  const auto from = normal(5 * 11, 1);
  repeat([&](Gpu& gpu) {
    float* to = gpu.upload(std::vector<float>(5 * 9, -1.0f));
    cuda::copy_rows(gpu.upload(from), 11 * sizeof(float), to, 9 * sizeof(float), 7 * sizeof(float), 5, gpu.stream());
    const auto got = gpu.download(to, 5 * 9);
    for (int row = 0; row < 5; ++row) {
      for (int j = 0; j < 9; ++j) EXPECT_EQ(got[row * 9 + j], j < 7 ? from[row * 11 + j] : -1.0f);
    }
    return Bits();
  });
}

template <class T>
void check_column_sums(int64_t rows, int64_t cols, bool accumulate) {
  const int64_t ld = cols + 3;
  const auto x = values<T>(rows * ld, 1);
  const auto before = normal(cols, 2);
  std::vector<double> want(static_cast<size_t>(cols));
  for (int64_t j = 0; j < cols; ++j) {
    if (accumulate) want[j] = before[j];
    for (int64_t row = 0; row < rows; ++row) want[j] += to_float(x[row * ld + j]);
  }
  repeat([&](Gpu& gpu) {
    const int64_t parts = cuda::column_sums_parts(rows);
    float* partial = parts ? gpu.empty<float>(parts * cols) : nullptr;
    float* sums = accumulate ? gpu.upload(before) : gpu.empty<float>(cols);
    cuda::column_sums<T>(gpu.upload(x), rows, ld, cols, partial, sums, accumulate, gpu.stream());
    const auto got = gpu.download(sums, cols);
    expect_close(got, want, 2e-5, "sums");
    Bits bits;
    bits.add(got);
    return bits;
  });
}

TEST(CudaColumnSums, AddAllRows) {
  for (const int64_t rows : {0, 1, 5, 512, 513, 1500}) {
    for (const bool accumulate : {false, true}) {
      SCOPED_TRACE(rows);
      check_column_sums<float>(rows, 37, accumulate);
      check_column_sums<BF16>(rows, 64, accumulate);
    }
  }
}

}  // namespace
}  // namespace deepflow
