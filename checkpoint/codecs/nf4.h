#pragma once

#include "checkpoint/codecs/scaled_groups.h"

namespace deepflow {

// 4-bit NormalFloat (Dettmers et al., QLoRA, section 3 and appendix E): the 16 levels are quantiles of a normal
// distribution. Layout and limits: scaled_groups.h. 0.266 of bf16, 0.141 of f32.
class Nf4Codec : public ScaledGroupsCodec {
 public:
  Nf4Codec();
  CodecId id() const override { return CodecId::kNf4; }

 private:
  void nearest_codes(const float* quotients, uint8_t* codes) const override;
};

}  // namespace deepflow
