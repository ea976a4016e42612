#include "checkpoint/codecs/raw.h"

#include "core/error.h"

#include <cstring>

namespace deepflow {

void RawCodec::decode(std::span<const char> stored, DType /*dtype*/, std::span<char> raw) {
  if (stored.size() != raw.size()) throw DataError("{} raw bytes stored, expected {}", stored.size(), raw.size());
  if (!raw.empty()) std::memcpy(raw.data(), stored.data(), raw.size());
}

}  // namespace deepflow
