#include "checkpoint/digest.h"

// The variant for this machine's instruction set, chosen at run time: plain xxhash.h is that of the distribution, SSE2.
#include <xxh_x86dispatch.h>

namespace deepflow {

Digest digest_of(std::span<const char> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

}  // namespace deepflow
