#include "checkpoint/codecs/nf4.h"

namespace deepflow {
namespace {

constexpr int kNumLevels = 16;
constexpr float kLevels[256] = {-1.0f,
                                -0.6961928009986877f,
                                -0.5250730514526367f,
                                -0.39491748809814453f,
                                -0.28444138169288635f,
                                -0.18477343022823334f,
                                -0.09105003625154495f,
                                0.0f,
                                0.07958029955625534f,
                                0.16093020141124725f,
                                0.24611230194568634f,
                                0.33791524171829224f,
                                0.44070982933044434f,
                                0.5626170039176941f,
                                0.7229568362236023f,
                                1.0f};

}  // namespace

Nf4Codec::Nf4Codec() : ScaledGroupsCodec(4, kLevels) {}

void Nf4Codec::nearest_codes(const float* quotients, uint8_t* codes) const {
  int above[kScaledGroup] = {};
  for (int k = 0; k + 1 < kNumLevels; ++k) {
    const float middle = (kLevels[k] + kLevels[k + 1]) / 2;
    for (size_t i = 0; i < kScaledGroup; ++i) above[i] += quotients[i] > middle;
  }
  for (size_t i = 0; i < kScaledGroup; ++i) codes[i] = static_cast<uint8_t>(above[i]);
}

}  // namespace deepflow
