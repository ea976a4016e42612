#pragma once

#include "checkpoint/codecs/codec.h"
#include "checkpoint/codecs/zstd.h"

#include <vector>

namespace deepflow {

// Values split into planes of bytes, each coded by itself. In weights the exponent has a few likely values, mantissas
// have none and nothing repeats; so a plane gets a Huffman code (zstd without match finding) or stays as it is.
//
//   block = header{w} content{w} tail       w = bytes of a value; planes from the least significant byte on
//   header = mode u8, length u32            little-endian; length of the plane's content
//   content = mode 0: the plane's n bytes, n = floor(raw bytes / w)
//             mode 1: one byte, which all n are
//             mode 2: zstd frame of n bytes (RFC 8878)
//             mode 3: a byte, and a zstd frame of n bytes less it (modulo 256); huffman_frame.h
//   tail = the raw bytes behind the last whole value
//
// bf16 and f32 are rotated left by one bit before they are split: exponent in the last plane, sign in the lowest bit of
// the first. f16, i32, i64 and u8 are split as they are.
class PlanesCodec : public Codec {
 public:
  explicit PlanesCodec(CpuIsa isa);
  CodecId id() const override { return CodecId::kPlanes; }
  size_t bound(size_t raw_bytes) const override;
  size_t encode(std::span<const char> raw, DType dtype, std::span<char> out) override;
  void decode(std::span<const char> stored, DType dtype, std::span<char> raw) override;

 private:
  struct Content {
    uint8_t mode;
    size_t length;
  };
  // Codes a plane into `out`, or leaves that to the caller (stored).
  Content put_plane(std::span<const char> plane, std::span<char> out);
  char* scratch_for(size_t num_planes, size_t n);

  CpuIsa isa_;
  ZstdCompressor compressor_;
  ZstdDecompressor decompressor_;
  std::vector<char> scratch_;
};

}  // namespace deepflow
