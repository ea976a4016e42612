#include "kernels/ops/byte_planes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace deepflow {
namespace {

std::vector<CpuIsa> variants() {
  std::vector<CpuIsa> result;
  const CpuIsa best = best_isa(detect_cpu());
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16})
    if (isa <= best) result.push_back(isa);
  return result;
}

std::vector<char> random_bytes(size_t n) {
  std::mt19937 random(static_cast<unsigned>(n));
  std::vector<char> result(n);
  for (char& byte : result) byte = static_cast<char>(random());
  return result;
}

// Byte p of value i, from bits alone.
char expected_byte(const std::vector<char>& values, size_t width, size_t i, size_t p, bool rotate) {
  uint64_t x = 0;
  for (size_t b = 0; b < width; ++b) x |= uint64_t{static_cast<uint8_t>(values[i * width + b])} << (8 * b);
  if (rotate) x = x << 1 | x >> (8 * width - 1);
  return static_cast<char>(x >> (8 * p));
}

TEST(BytePlanes, HoldEachByteOfTheRotatedValues) {
  constexpr int64_t kGuard = 64;
  for (const CpuIsa isa : variants())
    for (const size_t width : {1, 2, 4, 8})
      for (const bool rotate : {false, true})
        for (const int64_t n : {0, 1, 7, 31, 32, 63, 64, 65, 127, 128, 300}) {
          SCOPED_TRACE(::testing::Message()
                       << name_of(isa) << " width " << width << " n " << n << " rotate " << rotate);
          const std::vector<char> values = random_bytes(static_cast<size_t>(n) * width);
          std::vector<std::vector<char>> planes(width, std::vector<char>(static_cast<size_t>(n + kGuard), 'x'));
          std::vector<char*> to;
          std::vector<const char*> from;
          for (auto& plane : planes) to.push_back(plane.data()), from.push_back(plane.data());
          split_byte_planes(isa, values.data(), n, rotate, to);
          for (size_t p = 0; p < width; ++p) {
            for (size_t i = 0; i < static_cast<size_t>(n); ++i)
              ASSERT_EQ(planes[p][i], expected_byte(values, width, i, p, rotate)) << "plane " << p << " value " << i;
            for (size_t i = static_cast<size_t>(n); i < planes[p].size(); ++i) ASSERT_EQ(planes[p][i], 'x') << i;
          }
          std::vector<char> joined(values.size() + kGuard, 'x');
          join_byte_planes(isa, from, n, rotate, joined.data());
          EXPECT_TRUE(std::equal(values.begin(), values.end(), joined.begin()));
          for (size_t i = values.size(); i < joined.size(); ++i) ASSERT_EQ(joined[i], 'x') << i;
        }
}

TEST(BytePlanes, ExclusiveOrMayBeInPlace) {
  for (const CpuIsa isa : variants())
    for (const size_t n : {0, 1, 31, 64, 200}) {
      const std::vector<char> a = random_bytes(n), b = random_bytes(n + 1);
      std::vector<char> out = a;
      xor_bytes(isa, out, std::span(b).first(n), out);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(out[i], static_cast<char>(a[i] ^ b[i])) << name_of(isa) << " " << i;
    }
}

}  // namespace
}  // namespace deepflow
