#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace deepflow {
namespace {

TEST(Shape, CountsElementsAndRows) {
  const Shape s{2, 3, 5};
  EXPECT_EQ(s.num_elements(), 30);
  EXPECT_EQ(s.rows(), 6);
  EXPECT_EQ(s.cols(), 5);
  EXPECT_EQ(s.to_string(), "[2, 3, 5]");
  EXPECT_EQ(Shape{}.num_elements(), 1);
  EXPECT_FALSE(s == (Shape{2, 3}));
}

TEST(DType, RoundTripsNames) {
  for (const char* name : {"f32", "bf16", "f16", "i32", "i64", "u8"})
    EXPECT_STREQ(name_of(dtype_from_name(name)), name);
}

TEST(DType, Bf16RoundsToNearestEven) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);  // tie, even below
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);  // tie, even above
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808001u)).bits, 0x3f81);
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isinf(to_float(to_bf16(std::numeric_limits<float>::max()))));
}

// By the definition of binary16: sign, five bits of exponent, ten of mantissa.
double f16_value(uint32_t bits) {
  const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

TEST(DType, F16HoldsWhatTheStandardSaysAndComesBackFromF32) {
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const F16 half{static_cast<uint16_t>(bits)};
    const float wide = to_float(half);
    if ((bits & 0x7c00) != 0x7c00) {
      ASSERT_EQ(wide, f16_value(bits)) << bits;
      ASSERT_EQ(std::signbit(wide), bits >= 0x8000) << bits;
    } else if ((bits & 0x3ff) == 0) {
      ASSERT_EQ(wide, bits & 0x8000 ? -INFINITY : INFINITY) << bits;
    } else {
      ASSERT_TRUE(std::isnan(wide)) << bits;
      ASSERT_TRUE(std::isnan(to_float(to_f16(wide)))) << bits;
      continue;
    }
    ASSERT_EQ(to_f16(wide).bits, bits);
  }
}

TEST(DType, F16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {  // 2^16 would be the number after the largest: infinity
    const double low = f16_value(bits), high = bits == 0x7bff ? 0x1p16 : f16_value(bits + 1);
    const float middle = static_cast<float>((low + high) / 2);
    const uint32_t even = bits + (bits & 1);
    for (const uint32_t sign : {0u, 0x8000u}) {
      const float s = sign ? -1.0f : 1.0f;
      ASSERT_EQ(to_f16(s * middle).bits, sign | even) << bits;
      ASSERT_EQ(to_f16(s * std::nextafter(middle, 0.0f)).bits, sign | bits) << bits;
      ASSERT_EQ(to_f16(s * std::nextafter(middle, INFINITY)).bits, sign | (bits + 1)) << bits;
    }
  }
  for (const float huge : {70000.0f, 1e30f, INFINITY}) {
    EXPECT_EQ(to_f16(huge).bits, 0x7c00);
    EXPECT_EQ(to_f16(-huge).bits, 0xfc00);
  }
  EXPECT_EQ(to_f16(0x1p-149f).bits, 0);
}

TEST(Tensor, ViewsShareStorageAndKeepTheLeadingDimension) {
  CachingHostAllocator memory;
  Tensor t = Tensor::empty(memory, {4, 6}, DType::kF32);
  for (int i = 0; i < 24; ++i) t.data<float>()[i] = static_cast<float>(i);
  EXPECT_TRUE(t.is_sole_owner());
  const Tensor block = t.row_range(1, 3).column_range(2, 5);
  EXPECT_FALSE(t.is_sole_owner());
  EXPECT_EQ(block.shape(), (Shape{2, 3}));
  EXPECT_EQ(block.ld(), 6);
  EXPECT_FALSE(block.is_contiguous());
  EXPECT_EQ(block.data<float>()[block.ld()], 14.0f);
  EXPECT_EQ(t.view({2, 12}).row_range(1, 2).data<float>()[0], 12.0f);
  EXPECT_EQ(t.flat_range(5, 9).data<float>()[0], 5.0f);
}

TEST(Tensor, ReturnsMemoryWithItsLastCopy) {
  CachingHostAllocator memory;
  {
    Tensor a = Tensor::empty(memory, {100}, DType::kF32);
    const Tensor b = a.flat_range(10, 20);
    a = {};
    EXPECT_GT(memory.stats().in_use, 0);
    EXPECT_TRUE(b.is_sole_owner());
  }
  EXPECT_EQ(memory.stats().in_use, 0);
}

TEST(TensorDeathTest, RefusesTheWrongDType) {
  CachingHostAllocator memory;
  const Tensor t = Tensor::empty(memory, {2}, DType::kBF16);
  EXPECT_DEATH(t.data<float>(), "tensor is bf16, not f32");
}

}  // namespace
}  // namespace deepflow
