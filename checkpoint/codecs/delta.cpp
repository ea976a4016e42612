#include "checkpoint/codecs/delta.h"

#include "core/error.h"
#include "kernels/ops/byte_planes.h"

namespace deepflow {

size_t DeltaCodec::encode(std::span<const char> raw, std::span<const char> base, DType dtype, std::span<char> out) {
  DF_ASSERT(base.size() == raw.size(), "a base of {} bytes for {}", base.size(), raw.size());
  if (difference_.size() < raw.size()) difference_.resize(raw.size());
  const std::span<char> difference(difference_.data(), raw.size());
  xor_bytes(isa_, raw, base, difference);
  return planes_.encode(difference, dtype, out);
}

void DeltaCodec::decode(std::span<const char> stored, std::span<const char> base, DType dtype, std::span<char> raw) {
  if (base.size() != raw.size()) throw DataError("a base of {} bytes for a block of {}", base.size(), raw.size());
  planes_.decode(stored, dtype, raw);
  xor_bytes(isa_, raw, base, raw);
}

size_t DeltaCodec::encode(std::span<const char> raw, DType dtype, std::span<char> out) {
  return planes_.encode(raw, dtype, out);
}

void DeltaCodec::decode(std::span<const char> stored, DType dtype, std::span<char> raw) {
  planes_.decode(stored, dtype, raw);
}

}  // namespace deepflow
