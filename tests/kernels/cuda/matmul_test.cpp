#include "kernels/cuda/matmul.h"

#include "tests/kernels/cuda/gpu_test.h"

#include <cmath>

namespace deepflow {
namespace {

constexpr size_t kWorkspace = size_t{1} << 20;
constexpr int64_t kGap = 8;  // elements between rows that no product may touch

struct Case {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false, bias = false;
  int64_t offset = 0;  // elements by which every matrix starts late
};

struct Stored {
  int64_t rows, cols, ld;
  int64_t size() const { return rows * ld; }
};

Stored stored(int64_t rows, int64_t cols, bool transposed) {
  return transposed ? Stored{cols, rows, rows + kGap} : Stored{rows, cols, cols + kGap};
}

template <class T>
std::vector<double> product(const Case& c, const std::vector<T>& a, const std::vector<T>& b, const Stored& sa,
                            const Stored& sb) {
  std::vector<double> out;
  for (int64_t i = 0; i < c.m; ++i) {
    for (int64_t j = 0; j < c.n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        sum += static_cast<double>(to_float(a[c.offset + (c.transpose_a ? k * sa.ld + i : i * sa.ld + k)])) *
               to_float(b[c.offset + (c.transpose_b ? j * sb.ld + k : k * sb.ld + j)]);
      }
      out.push_back(sum);
    }
  }
  return out;
}

template <class T, class C>
void check(const Case& c) {
  SCOPED_TRACE(testing::Message() << c.m << " x " << c.n << " x " << c.k << (c.transpose_a ? " at" : "")
                                  << (c.transpose_b ? " bt" : "") << (c.accumulate ? " accumulate" : "")
                                  << (c.bias ? " bias" : ""));
  const Stored sa = stored(c.m, c.k, c.transpose_a), sb = stored(c.k, c.n, c.transpose_b), sc = stored(c.m, c.n, false);
  const auto a = normal_as<T>(sa.size() + c.offset, 1), b = normal_as<T>(sb.size() + c.offset, 2);
  const auto before = normal_as<C>(sc.size() + c.offset, 3);
  const auto bias = normal(c.n, 4);
  auto want = product(c, a, b, sa, sb);
  for (int64_t i = 0; i < c.m * c.n; ++i) {
    if (c.accumulate) want[i] += to_float(before[c.offset + i / c.n * sc.ld + i % c.n]);
    if (c.bias) want[i] += bias[i % c.n];
  }
  cuda::GemmShape shape{c.m, c.n, c.k, sa.ld, sb.ld, sc.ld, DTypeOf<T>::value, DTypeOf<C>::value};
  shape.transpose_a = c.transpose_a;
  shape.transpose_b = c.transpose_b;
  shape.accumulate = c.accumulate;
  shape.bias = c.bias;
  repeat([&](Gpu& gpu) {
    cuda::Gemm gemm(gpu.stream(), gpu.memory(), kWorkspace);
    const T *pa = gpu.upload(a) + c.offset, *pb = gpu.upload(b) + c.offset;
    C* pc = gpu.upload(before);
    const float* p_bias = c.bias ? gpu.upload(bias) : nullptr;
    gemm.run(shape, pa, pb, p_bias, pc + c.offset);
    const auto all = gpu.download(pc, sc.size() + c.offset);
    std::vector<C> got;
    for (int64_t i = 0; i < c.m; ++i) {
      const C* row = all.data() + c.offset + i * sc.ld;
      got.insert(got.end(), row, row + c.n);
      EXPECT_EQ(std::memcmp(row + c.n, before.data() + c.offset + i * sc.ld + c.n, kGap * sizeof(C)), 0) << "row " << i;
    }
    expect_close(got, want, 1e-5 + (std::is_same_v<C, float> ? 0 : 2 * kRounding<C>), "c");
    Bits bits;
    bits.add(got);
    return bits;
  });
}

void check_types(const Case& c) {
  check<float, float>(c);
  check<BF16, float>(c);
  if (!c.accumulate) check<BF16, BF16>(c);
}

TEST(CudaMatmul, EqualsTheSumInDouble) {
  for (const Case c : {Case{1, 1, 1}, Case{3, 5, 7}, Case{17, 33, 65}, Case{64, 48, 32}}) check_types(c);
}

TEST(CudaMatmul, TakesTransposedOperands) {
  check_types({17, 24, 40, true, false});
  check_types({17, 24, 40, false, true});
  check_types({16, 8, 24, true, true});
}

TEST(CudaMatmul, AddsToC) {
  check_types({9, 16, 24, true, false, true});
  check_types({32, 8, 5, false, true, true});
}

TEST(CudaMatmul, AddsTheBiasToEveryRow) {
  check_types({7, 24, 16, false, true, false, true});
  check_types({1, 40, 8, false, false, false, true});
}

TEST(CudaMatmul, TakesMatricesThatAreNotAligned) {
  check_types({8, 8, 8, false, false, false, false, 1});
  check_types({8, 8, 8, false, true, true, false, 2});
}

TEST(CudaMatmul, WithoutTermsTheSumIsZero) {
  check_types({5, 3, 0});
  check_types({5, 3, 0, true, false, true});
  check_types({0, 3, 4});
}

TEST(CudaMatmul, OneObjectServesManyShapes) {
  const auto a = normal(64 * 64, 1), b = normal(64 * 64, 2);
  repeat([&](Gpu& gpu) {
    cuda::Gemm gemm(gpu.stream(), gpu.memory(), kWorkspace);
    const float *pa = gpu.upload(a), *pb = gpu.upload(b);
    float* pc = gpu.upload(std::vector<float>(64 * 64));
    Bits bits;
    for (const int64_t m : {64, 1, 33, 64}) {
      gemm.run({m, 64, 64, 64, 64, 64}, pa, pb, nullptr, pc);
      const auto got = gpu.download(pc, m * 64);
      expect_close(got, product(Case{m, 64, 64}, a, b, {m, 64, 64}, {64, 64, 64}), 1e-5, "c");
      bits.add(got);
    }
    return bits;
  });
}

TEST(CudaMatmul, EveryCallHasItsOwnBias) {
  const auto a = normal(8 * 8, 1), b = normal(8 * 8, 2);
  cuda::GemmShape shape{8, 8, 8, 8, 8, 8};
  shape.bias = true;
  repeat([&](Gpu& gpu) {
    cuda::Gemm gemm(gpu.stream(), gpu.memory(), kWorkspace);
    const float *pa = gpu.upload(a), *pb = gpu.upload(b);
    float* pc = gpu.empty<float>(8 * 8);
    for (const float value : {1.0f, 2.0f}) {
      gemm.run(shape, pa, pb, gpu.upload(std::vector<float>(8, value)), pc);
      auto want = product(Case{8, 8, 8}, a, b, {8, 8, 8}, {8, 8, 8});
      for (double& w : want) w += value;
      expect_close(gpu.download(pc, 8 * 8), want, 1e-5, "c");
    }
    return Bits();
  });
}

}  // namespace
}  // namespace deepflow
