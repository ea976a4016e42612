#pragma once

#include <cstdint>
#include <span>

namespace deepflow {

// XXH3-128 of some bytes, with seed 0 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md): what checkpoints know a
// block and a file by.
struct Digest {
  uint64_t lo = 0, hi = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

Digest digest_of(std::span<const char> bytes);

}  // namespace deepflow
