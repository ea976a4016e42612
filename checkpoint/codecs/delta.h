#pragma once

#include "checkpoint/codecs/planes.h"

#include <vector>

namespace deepflow {

// What changed since an earlier block of the same length. Between checkpoints a few steps apart signs and exponents
// stay and mantissas change in their last bits.
//
//   block = planes block (planes.h) of raw XOR base
class DeltaCodec : public Codec {
 public:
  explicit DeltaCodec(CpuIsa isa) : isa_(isa), planes_(isa) {}
  CodecId id() const override { return CodecId::kDelta; }
  size_t bound(size_t raw_bytes) const override { return planes_.bound(raw_bytes); }
  size_t encode(std::span<const char> raw, std::span<const char> base, DType dtype, std::span<char> out);
  // DataError also for a base of another length.
  void decode(std::span<const char> stored, std::span<const char> base, DType dtype, std::span<char> raw);
  // Without a base: one of zeros.
  size_t encode(std::span<const char> raw, DType dtype, std::span<char> out) override;
  void decode(std::span<const char> stored, DType dtype, std::span<char> raw) override;

 private:
  CpuIsa isa_;
  PlanesCodec planes_;
  std::vector<char> difference_;
};

}  // namespace deepflow
