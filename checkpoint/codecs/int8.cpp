#include "checkpoint/codecs/int8.h"

#include <bit>

namespace deepflow {
namespace {

struct Levels {
  float value[256];
  constexpr Levels() : value() {
    for (int code = 0; code < 256; ++code) value[code] = static_cast<float>(static_cast<int8_t>(code)) / 127.0f;
  }
};
constexpr Levels kLevels;

}  // namespace

Int8Codec::Int8Codec() : ScaledGroupsCodec(8, kLevels.value) {}

void Int8Codec::nearest_codes(const float* quotients, uint8_t* codes) const {
  // Adding 1.5 * 2^23 leaves the nearest integer in the lowest bits.
  constexpr float kRound = 12582912.0f;
  for (size_t i = 0; i < kScaledGroup; ++i)
    codes[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(quotients[i] * 127.0f + kRound));
}

}  // namespace deepflow
