#pragma once

#include "checkpoint/codecs/codec.h"

#include <memory>

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace deepflow {

struct ZstdDeleter {
  void operator()(ZSTD_CCtx_s* context) const;
  void operator()(ZSTD_DCtx_s* context) const;
};
using ZstdCompressor = std::unique_ptr<ZSTD_CCtx_s, ZstdDeleter>;
using ZstdDecompressor = std::unique_ptr<ZSTD_DCtx_s, ZstdDeleter>;

// Without checksum and content size: both are in a block's record.
ZstdCompressor make_zstd_compressor(int level);
void set_zstd_parameter(ZSTD_CCtx_s* context, int parameter, int value);  // a ZSTD_cParameter
ZstdDecompressor make_zstd_decompressor();
// One or more frames that fill `raw` exactly; else DataError.
void decode_zstd(ZSTD_DCtx_s* context, std::span<const char> stored, std::span<char> raw);

// block = zstd frame (RFC 8878)
class ZstdCodec : public Codec {
 public:
  static constexpr int kLevel = 3;
  explicit ZstdCodec(int level = kLevel);
  CodecId id() const override { return CodecId::kZstd; }
  size_t bound(size_t raw_bytes) const override;
  size_t encode(std::span<const char> raw, DType dtype, std::span<char> out) override;
  void decode(std::span<const char> stored, DType dtype, std::span<char> raw) override;

 private:
  ZstdCompressor compressor_;
  ZstdDecompressor decompressor_;
};

}  // namespace deepflow
