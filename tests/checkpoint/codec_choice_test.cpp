#include "checkpoint/codecs/choice.h"
#include "tests/checkpoint/codec_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using testing::noise;
using ::testing::StartsWith;
using testing::weights;

TEST(CodecChoice, WeightsGoToPlanesAndNoiseStaysRaw) {
  CodecChooser chooser;
  for (const size_t bytes : {size_t{4096}, size_t{64} << 10, size_t{3} << 20}) {
    const CodecChoice bf16 = chooser.choose(weights(DType::kBF16, bytes), DType::kBF16);
    EXPECT_EQ(bf16.codec, CodecId::kPlanes) << bytes;
    EXPECT_LT(bf16.ratio, 0.72) << bytes;
    EXPECT_EQ(chooser.choose(weights(DType::kF32, bytes), DType::kF32).codec, CodecId::kPlanes) << bytes;
    const CodecChoice random = chooser.choose(noise(bytes), DType::kU8);
    EXPECT_EQ(random.codec, CodecId::kRaw) << bytes;
    EXPECT_EQ(random.ratio, 1);
    EXPECT_THAT(random.text, StartsWith("raw (planes 1.000"));
  }
  EXPECT_EQ(chooser.choose({}, DType::kF32).codec, CodecId::kRaw);
}

TEST(CodecChoice, WhatRepeatsGoesToZstd) {
  std::vector<char> text = noise(5000);
  while (text.size() < 1 << 20) text.insert(text.end(), text.begin(), text.begin() + 5000);
  const CodecChoice choice = CodecChooser().choose(text, DType::kU8);
  EXPECT_EQ(choice.codec, CodecId::kZstd);
  EXPECT_THAT(choice.text, StartsWith("zstd, 0.0"));
}

// The rows of an embedding that have never been read have moments of 0; the sample sees both ends.
TEST(CodecChoice, SeesTheWholeTensor) {
  std::vector<char> half = weights(DType::kF32, 2 << 20);
  std::fill(half.begin(), half.begin() + (1 << 20), 0);
  const double ratio = CodecChooser().choose(half, DType::kF32).ratio;
  EXPECT_GT(ratio, 0.3);
  EXPECT_LT(ratio, 0.55);
}

TEST(CodecChoice, IsTheSameAgain) {
  const std::vector<char> values = weights(DType::kI64, 1 << 20);
  CodecChooser chooser;
  const CodecChoice first = chooser.choose(values, DType::kI64), again = chooser.choose(values, DType::kI64);
  EXPECT_EQ(first.text, again.text);
  EXPECT_EQ(first.text, CodecChooser().choose(values, DType::kI64).text);
  EXPECT_NE(first.codec, CodecId::kRaw);
}

}  // namespace
}  // namespace deepflow
