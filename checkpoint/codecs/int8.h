#pragma once

#include "checkpoint/codecs/scaled_groups.h"

namespace deepflow {

// Codes from -127 to 127 in two's complement, nearest to 127 times the quotient. Layout and limits: scaled_groups.h.
class Int8Codec : public ScaledGroupsCodec {
 public:
  Int8Codec();
  CodecId id() const override { return CodecId::kInt8; }

 private:
  void nearest_codes(const float* quotients, uint8_t* codes) const override;
};

}  // namespace deepflow
