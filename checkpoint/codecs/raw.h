#pragma once

#include "checkpoint/codecs/codec.h"

namespace deepflow {

// block = the bytes as they are
class RawCodec : public Codec {
 public:
  CodecId id() const override { return CodecId::kRaw; }
  size_t bound(size_t /*raw_bytes*/) const override { return 0; }
  size_t encode(std::span<const char> /*raw*/, DType /*dtype*/, std::span<char> /*out*/) override { return 0; }
  void decode(std::span<const char> stored, DType dtype, std::span<char> raw) override;
};

}  // namespace deepflow
