#include "checkpoint/codecs/codec.h"

#include "checkpoint/codecs/delta.h"
#include "checkpoint/digest.h"
#include "core/error.h"
#include "tests/checkpoint/codec_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <limits>
#include <string>

namespace deepflow {
namespace {

using testing::bytes_of;
using testing::gaussian;
using ::testing::HasSubstr;
using testing::noise;
using testing::rounded;
using testing::values_in;
using testing::weights;

constexpr CodecId kAll[] = {CodecId::kRaw,   CodecId::kZstd, CodecId::kPlanes,
                            CodecId::kDelta, CodecId::kNf4,  CodecId::kInt8};
constexpr CodecId kLossless[] = {CodecId::kZstd, CodecId::kPlanes, CodecId::kDelta};
constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kU8};
constexpr size_t kBlock = 256 << 10;

std::vector<CpuIsa> variants() {
  std::vector<CpuIsa> result;
  const CpuIsa best = best_isa(detect_cpu());
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16})
    if (isa <= best) result.push_back(isa);
  return result;
}

std::vector<char> encoded(Codec& codec, const std::vector<char>& raw, DType dtype) {
  std::vector<char> out(codec.bound(raw.size()));
  const size_t stored = codec.encode(raw, dtype, out);
  EXPECT_TRUE(stored < raw.size() || stored == 0);
  out.resize(stored);
  return out;
}

// Decodes into memory with guards on both sides.
std::vector<char> decoded(Codec& codec, std::span<const char> stored, DType dtype, size_t raw_bytes) {
  constexpr size_t kGuard = 256;
  std::vector<char> memory(raw_bytes + 2 * kGuard, 'g');
  const auto guards_hold = [&] {
    for (size_t i = 0; i < kGuard; ++i)
      if (memory[i] != 'g' || memory[kGuard + raw_bytes + i] != 'g') return false;
    return true;
  };
  try {
    codec.decode(stored, dtype, std::span(memory).subspan(kGuard, raw_bytes));
  } catch (const DataError&) {
    EXPECT_TRUE(guards_hold());
    throw;
  }
  EXPECT_TRUE(guards_hold());
  return {memory.begin() + kGuard, memory.begin() + static_cast<std::ptrdiff_t>(kGuard + raw_bytes)};
}

struct Content {
  const char* name;
  std::vector<char> bytes;
};

std::vector<Content> contents(DType dtype, size_t bytes) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> odd = gaussian(bytes / 4 + 1, 1, 2);
  for (size_t i = 0; i < odd.size(); i += 3) odd[i] = i % 2 ? inf : std::nanf("0x1234");
  std::vector<char> special = dtype == DType::kBF16 ? bytes_of(rounded(odd)) : bytes_of(odd);
  special.resize(bytes);
  std::vector<char> half_noise = noise(bytes);
  for (size_t i = 0; i < bytes; i += 2) half_noise[i] = 0;
  return {{"weights", weights(dtype, bytes)},
          {"zeros", std::vector<char>(bytes, 0)},
          {"not finite", special},
          {"noise", noise(bytes)},
          {"every other byte 0", half_noise}};
}

TEST(Codec, NamesAndNumbersFindCodecs) {
  for (const CodecId id : kAll) {
    EXPECT_EQ(codec_from_name(name_of(id)), id);
    EXPECT_EQ(codec_from_number(static_cast<uint8_t>(id)), id);
    EXPECT_EQ(make_codec(id)->id(), id);
    EXPECT_EQ(make_codec(id)->is_lossy(), id == CodecId::kNf4 || id == CodecId::kInt8);
  }
  EXPECT_FALSE(codec_from_name("lzma"));
  EXPECT_FALSE(codec_from_name(""));
  EXPECT_FALSE(codec_from_number(6));
}

TEST(Codec, EveryByteComesBackAndIsTheSameForEveryInstructionSet) {
  for (const DType dtype : kDTypes)
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{2}, size_t{7}, size_t{63}, size_t{64}, size_t{1001},
                               size_t{4096}, size_t{65537}, kBlock - 1, kBlock})
      for (const Content& content : contents(dtype, bytes))
        for (const CodecId id : kLossless) {
          SCOPED_TRACE(::testing::Message()
                       << name_of(dtype) << " " << bytes << " " << content.name << " " << name_of(id));
          std::vector<char> first;
          for (const CpuIsa isa : variants()) {
            const auto codec = make_codec(id, isa);
            const std::vector<char> stored = encoded(*codec, content.bytes, dtype);
            if (isa == CpuIsa::kAvx2) first = stored;
            ASSERT_EQ(stored, first) << name_of(isa);
            if (stored.empty()) continue;
            ASSERT_EQ(decoded(*codec, stored, dtype, bytes), content.bytes) << name_of(isa);
          }
        }
}

TEST(Codec, RawBlocksAreTheBytes) {
  const auto codec = make_codec(CodecId::kRaw);
  const std::vector<char> raw = noise(100);
  EXPECT_TRUE(encoded(*codec, raw, DType::kU8).empty());
  EXPECT_EQ(decoded(*codec, raw, DType::kU8, 100), raw);
  EXPECT_THROW(decoded(*codec, raw, DType::kU8, 101), DataError);
  EXPECT_TRUE(decoded(*codec, {}, DType::kU8, 0).empty());
}

TEST(Codec, WeightsShrinkByTheirExponents) {
  const auto codec = make_codec(CodecId::kPlanes);
  const auto ratio = [&](DType dtype) {
    return static_cast<double>(encoded(*codec, weights(dtype, kBlock), dtype).size()) / kBlock;
  };
  EXPECT_LE(ratio(DType::kBF16), 0.67);
  EXPECT_LE(ratio(DType::kF32), 0.835);
  EXPECT_LT(ratio(DType::kF16), 0.9);
  EXPECT_LT(ratio(DType::kI64), 0.35);
  EXPECT_TRUE(encoded(*codec, noise(kBlock), DType::kF32).empty());
}

// An object that has served large blocks serves small ones, and the other way round.
TEST(Codec, ScratchMemoryIsNoState) {
  for (const CodecId id : kLossless) {
    const auto used = make_codec(id);
    for (const size_t bytes : {size_t{600}, kBlock, size_t{64}, size_t{5000}})
      for (const DType dtype : {DType::kI64, DType::kBF16}) {
        const std::vector<char> raw = weights(dtype, bytes), stored = encoded(*used, raw, dtype);
        EXPECT_EQ(stored, encoded(*make_codec(id), raw, dtype)) << name_of(id) << " " << bytes;
        if (stored.empty()) continue;
        EXPECT_EQ(decoded(*used, stored, dtype, bytes), raw);
      }
  }
}

TEST(Codec, TruncatedAndLongerBlocksAreRejected) {
  for (const CodecId id : kAll)
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const auto codec = make_codec(id);
      const std::vector<char> raw = weights(dtype, 4096);
      std::vector<char> stored = encoded(*codec, raw, dtype);
      if (stored.empty()) stored = raw;  // zstd finds nothing in some
      const auto reader = id == CodecId::kZstd && stored == raw ? make_codec(CodecId::kRaw) : make_codec(id);
      ASSERT_NO_THROW(decoded(*reader, stored, dtype, raw.size())) << name_of(id);
      for (size_t n = 0; n < stored.size(); ++n)
        EXPECT_THROW(decoded(*reader, std::span(stored).first(n), dtype, raw.size()), DataError)
            << name_of(id) << " " << n;
      stored.push_back(0);
      EXPECT_THROW(decoded(*reader, stored, dtype, raw.size()), DataError) << name_of(id);
    }
}

TEST(Codec, DamagedBlocksGiveErrorsOrOtherValues) {
  for (const CodecId id : kAll)
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI64}) {
      const auto codec = make_codec(id);
      const std::vector<char> raw = weights(dtype, 1500);
      std::vector<char> stored = encoded(*codec, raw, dtype);
      for (size_t bit = 0; bit < 8 * stored.size(); ++bit) {
        stored[bit / 8] ^= static_cast<char>(1 << bit % 8);
        try {
          EXPECT_EQ(decoded(*codec, stored, dtype, raw.size()).size(), raw.size());
        } catch (const DataError&) {
        }
        stored[bit / 8] ^= static_cast<char>(1 << bit % 8);
      }
      if (stored.empty()) continue;
      EXPECT_NO_THROW(decoded(*codec, stored, dtype, raw.size()));
    }
}

TEST(Codec, NoiseIsNoBlock) {
  for (const CodecId id : {CodecId::kZstd, CodecId::kPlanes, CodecId::kDelta})
    for (unsigned seed = 0; seed < 500; ++seed) {
      std::vector<char> stored = noise(seed % 90, seed);
      for (size_t i = 0; i < stored.size() && i < 20; i += 5) {  // headers that are nearly plausible
        stored[i] = static_cast<char>(seed % 4);
        for (size_t b = 2; b < 5 && i + b < stored.size(); ++b) stored[i + b] = 0;
      }
      try {
        decoded(*make_codec(id), stored, DType::kF32, 64);
      } catch (const DataError& error) {
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      }
    }
}

std::string hex(const std::vector<char>& bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return text;
}

std::vector<char> from_hex(const std::string& text) {
  std::vector<char> bytes;
  for (size_t i = 0; i < text.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

TEST(Codec, PlanesLieAsDocumented) {
  // 24 values +-(1 + k / 128) of one exponent, 127: mantissa and sign in the first plane, one byte in the second, and
  // an odd byte behind.
  std::vector<BF16> values;
  for (uint16_t k = 0; k < 24; ++k) values.push_back({static_cast<uint16_t>(0x3f80 + 5 * k + (k % 2 ? 0x8000 : 0))});
  std::vector<char> raw = bytes_of(values);
  raw.push_back('t');
  std::string first;
  for (unsigned k = 0; k < 24; ++k) first += fmt::format("{:02x}", 10 * k + k % 2);
  const auto codec = make_codec(CodecId::kPlanes);
  EXPECT_EQ(hex(encoded(*codec, raw, DType::kBF16)),
            "0018000000"
            "0101000000" +
                first +
                "7f"
                "74");
}

TEST(Codec, AHuffmanPlaneIsAZstdFrame) {
  // What `planes` wrote with zstd 1.5.4; newer versions may write other frames, and read this one.
  std::vector<char> raw;
  for (int i = 0; i < 200; ++i) raw.push_back(static_cast<char>(i % 7 == 0 ? 'a' : i * i % 5 == 1 ? 'b' : 'c'));
  const auto codec = make_codec(CodecId::kPlanes);
  const std::string golden =
      "0238000000"
      "28b52ffd00007d010082cc0a04e00f8375cd2eb7b4a31bdbec724b3bbab1cd2eb7b4a31bdbec724b3bbab1cd2eb7b4a31bdbec724b3b020"
      "0";
  EXPECT_EQ(decoded(*codec, from_hex(golden), DType::kU8, raw.size()), raw);
  const std::string ours = hex(encoded(*codec, raw, DType::kU8));
  EXPECT_EQ(ours.substr(0, 2), "02");
  EXPECT_EQ(ours.substr(10, 8), "28b52ffd");
}

TEST(Codec, ZstdBlocksAreFrames) {
  // printf 'ab%.0s' {1..50} | zstd -3 --no-check --no-content-size
  const std::string golden = "28b52ffd00584500001061620100dfe4b0";
  std::string text;
  for (int i = 0; i < 50; ++i) text += "ab";
  const std::vector<char> back = decoded(*make_codec(CodecId::kZstd), from_hex(golden), DType::kU8, 100);
  EXPECT_EQ(std::string(back.begin(), back.end()), text);
}

TEST(Codec, ABaseIsAddedToAFrame) {
  std::vector<char> raw;
  for (int i = 0; i < 200; ++i) raw.push_back(static_cast<char>(i % 7 == 0 ? 'b' : i * i % 5 == 1 ? 'c' : 'd'));
  const std::string golden =
      "0339000000"
      "01"
      "28b52ffd00007d010082cc0a04e00f8375cd2eb7b4a31bdbec724b3bbab1cd2eb7b4a31bdbec724b3bbab1cd2eb7b4a31bdbec724b3b020"
      "0";
  EXPECT_EQ(decoded(*make_codec(CodecId::kPlanes), from_hex(golden), DType::kU8, raw.size()), raw);
}

// Frames of our own coder: few symbols or many, likely ones and such as want more than 11 bits, blocks of any length.
TEST(Codec, EverySetOfNearBytesComesBack) {
  for (const int symbols : {2, 3, 20, 63, 64, 65})
    for (const double ratio : {0.5, 0.62, 0.97, 1.0})
      for (const size_t bytes :
           {size_t{1023}, size_t{1024}, size_t{1025}, size_t{40001}, size_t{128} << 10, (size_t{128} << 10) + 1}) {
        SCOPED_TRACE(::testing::Message() << symbols << " symbols " << ratio << " " << bytes);
        std::vector<double> weight(static_cast<size_t>(symbols), 1);
        for (size_t s = 1; s < weight.size(); ++s) weight[s] = weight[s - 1] * ratio;
        std::mt19937 random(1);
        std::discrete_distribution<int> pick(weight.begin(), weight.end());
        std::vector<char> raw(bytes);
        for (char& byte : raw) byte = static_cast<char>(150 + pick(random));
        for (int s = 0; s < symbols; ++s) raw[static_cast<size_t>(s) * 7] = static_cast<char>(150 + s);
        std::vector<char> first;
        for (const CpuIsa isa : variants()) {
          const auto codec = make_codec(CodecId::kPlanes, isa);
          const std::vector<char> stored = encoded(*codec, raw, DType::kU8);
          if (isa == CpuIsa::kAvx2) first = stored;
          ASSERT_EQ(stored, first);
          ASSERT_FALSE(stored.empty());
          ASSERT_EQ(decoded(*codec, stored, DType::kU8, bytes), raw);
        }
        EXPECT_EQ(first[0], symbols <= 64 && bytes >= 1024 && bytes <= 128 << 10 ? 3 : 2);
      }
}

TEST(Codec, MalformedPlanesSayWhatIsWrong) {
  const auto codec = make_codec(CodecId::kPlanes);
  const auto message = [&](const std::string& stored) {
    try {
      decoded(*codec, from_hex(stored), DType::kBF16, 4);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message("0101000000"
                    "0101000000"
                    "1122"),
            "no error");
  EXPECT_EQ(message("01010000"), "4 bytes, less than the headers of planes");
  EXPECT_EQ(message("0101000000"
                    "0102000000"
                    "1122"),
            "plane 1 has 2 bytes, 1 are left");
  EXPECT_EQ(message("01010000ff"
                    "0101000000"
                    "1122"),
            "plane 0 has 4278190081 bytes, 2 are left");
  EXPECT_EQ(message("0101000000"
                    "0001000000"
                    "1122"),
            "plane 1 of 2 values has mode 0 and 1 bytes");
  EXPECT_EQ(message("0300000000"
                    "0101000000"
                    "1122"),
            "plane 0 of 2 values has mode 3 and 0 bytes");
  EXPECT_EQ(message("0401000000"
                    "0101000000"
                    "1122"),
            "plane 0 of 2 values has mode 4 and 1 bytes");
  EXPECT_EQ(message("0101000000"
                    "0101000000"
                    "112233"),
            "1 bytes behind the planes, expected 0");
  EXPECT_THAT(message("0201000000"
                      "0101000000"
                      "1122"),
              HasSubstr("malformed zstd frame"));
}

TEST(DeltaCodec, HoldsWhatChanged) {
  for (const CpuIsa isa : variants())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      DeltaCodec codec(isa);
      const std::vector<char> base = weights(dtype, kBlock);
      std::vector<char> raw = base;
      std::vector<char> out(codec.bound(raw.size()));
      const size_t same = codec.encode(raw, base, dtype, out);
      EXPECT_EQ(same, size_of(dtype) * 6);  // headers and planes of zeros
      for (size_t i = 0; i < raw.size(); i += 7 * size_of(dtype)) raw[i] ^= static_cast<char>(i % 3);  // small steps
      const size_t stored = codec.encode(raw, base, dtype, out);
      ASSERT_GT(stored, 0u);
      EXPECT_LT(static_cast<double>(stored) / kBlock, 0.3);
      std::vector<char> back(raw.size());
      codec.decode(std::span(out).first(stored), base, dtype, back);
      EXPECT_EQ(back, raw);
      EXPECT_THROW(codec.decode(std::span(out).first(stored), std::span(base).first(8), dtype, back), DataError);
    }
}

std::vector<float> floats_in(const std::vector<char>& bytes, DType dtype) {
  if (dtype == DType::kF32) return values_in<float>(bytes);
  std::vector<float> result;
  for (const BF16 x : values_in<BF16>(bytes)) result.push_back(to_float(x));
  return result;
}

TEST(ScaledCodecs, ErrorsStayWithinHalfAStep) {
  // The widest gap of NF4's levels is 0.304 of the group's largest magnitude, a step of int8 1 / 127.
  for (const auto& [id, step] : {std::pair(CodecId::kNf4, 0.304f), std::pair(CodecId::kInt8, 1 / 127.0f)})
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const size_t n : {size_t{63}, size_t{64}, size_t{65}, kBlock / size_of(dtype)}) {
        const auto codec = make_codec(id);
        std::vector<float> values = gaussian(n, 0.02f, 3);
        if (n >= 64) std::fill(values.begin(), values.begin() + 64, 0.0f);
        const std::vector<char> raw = dtype == DType::kF32 ? bytes_of(values) : bytes_of(rounded(values));
        const std::vector<char> back = decoded(*codec, encoded(*codec, raw, dtype), dtype, raw.size());
        const std::vector<float> exact = floats_in(raw, dtype), rough = floats_in(back, dtype);
        const float rounding = dtype == DType::kF32 ? 1e-6f : 1 / 256.0f;
        for (size_t first = 0; first < n; first += 64) {
          const size_t end = std::min(n, first + 64);
          float largest = 0;
          for (size_t i = first; i < end; ++i) largest = std::max(largest, std::fabs(exact[i]));
          for (size_t i = first; i < end; ++i)
            ASSERT_LE(std::fabs(exact[i] - rough[i]), largest * (step / 2 + rounding)) << name_of(id) << " " << i;
        }
      }
}

TEST(ScaledCodecs, WhatTheyCannotHoldIsLeftToOthers) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const CodecId id : {CodecId::kNf4, CodecId::kInt8}) {
    const auto codec = make_codec(id);
    std::vector<float> values = gaussian(200, 1, 4);
    EXPECT_FALSE(encoded(*codec, bytes_of(values), DType::kF32).empty());
    for (const float odd : {inf, -inf, std::nanf("")}) {
      values[130] = odd;
      EXPECT_TRUE(encoded(*codec, bytes_of(values), DType::kF32).empty());
      EXPECT_TRUE(encoded(*codec, bytes_of(rounded(values)), DType::kBF16).empty());
    }
    for (const DType dtype : {DType::kF16, DType::kI32, DType::kI64, DType::kU8}) {
      EXPECT_TRUE(encoded(*codec, weights(dtype, 4096), dtype).empty()) << name_of(dtype);
      EXPECT_THROW(decoded(*codec, noise(600), dtype, 4096), DataError);
    }
    EXPECT_TRUE(encoded(*codec, weights(DType::kF32, 4097), DType::kF32).empty());
    EXPECT_THROW(decoded(*codec, noise(600), DType::kF32, 4097), DataError);
  }
}

TEST(ScaledCodecs, AreFourOrEightBitsAndAScale) {
  const auto codec = make_codec(CodecId::kNf4);
  EXPECT_EQ(encoded(*codec, weights(DType::kBF16, kBlock), DType::kBF16).size(), kBlock / 4 + kBlock / 64);
  EXPECT_EQ(encoded(*codec, weights(DType::kF32, kBlock), DType::kF32).size(), kBlock / 8 + kBlock / 64);
  EXPECT_EQ(encoded(*make_codec(CodecId::kInt8), weights(DType::kF32, kBlock), DType::kF32).size(),
            kBlock / 4 + kBlock / 64);
}

TEST(ScaledCodecs, BlocksLieAsDocumented) {
  // One group: scale 2, then the values' codes. 2, -2, 0, and 0.5 (a quarter: 0.2461 is nearest), and 1 more.
  const std::vector<float> values = {2, -2, 0, 0.5f, 1.4f};
  EXPECT_EQ(hex(encoded(*make_codec(CodecId::kNf4), bytes_of(values), DType::kF32)),
            "00000040"
            "0fa77e");
  EXPECT_EQ(hex(encoded(*make_codec(CodecId::kNf4), bytes_of(rounded(values)), DType::kBF16)),
            "0040"
            "0fa77e");
  EXPECT_EQ(hex(encoded(*make_codec(CodecId::kInt8), bytes_of(values), DType::kF32)),
            "00000040"
            "7f81002059");
  const std::vector<char> back = decoded(*make_codec(CodecId::kNf4),
                                         from_hex("00000040"
                                                  "0fa77e"),
                                         DType::kF32, 20);
  EXPECT_THAT(values_in<float>(back),
              ::testing::ElementsAre(2, -2, 0, 2 * 0.24611230194568634f, 2 * 0.7229568362236023f));
  EXPECT_THAT(values_in<float>(decoded(*make_codec(CodecId::kInt8),
                                       from_hex("00000040"
                                                "7f8100"),
                                       DType::kF32, 12)),
              ::testing::ElementsAre(2, -2, 0));
  for (const char* scale : {"0000807f", "000080ff", "0000c07f", "000080bf"})  // inf, -inf, NaN, -1
    EXPECT_THROW(decoded(*make_codec(CodecId::kInt8), from_hex(scale + std::string("01")), DType::kF32, 4), DataError);
}

TEST(Digest, IsXxh3Of128Bits) {
  EXPECT_EQ(digest_of({}), (Digest{0x6001c324468d497fULL, 0x99aa06d3014798d8ULL}));
  for (const size_t n : {1, 16, 200, 241, 5000, 300000}) {
    const std::vector<char> bytes = noise(n);
    XXH3_state_t* state = XXH3_createState();
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, bytes.data(), n);
    const XXH128_hash_t expected = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    EXPECT_EQ(digest_of(bytes), (Digest{expected.low64, expected.high64})) << n;
  }
}

}  // namespace
}  // namespace deepflow
