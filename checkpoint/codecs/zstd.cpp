#include "checkpoint/codecs/zstd.h"

#include "core/error.h"

#include <zstd.h>

#include <new>

namespace deepflow {

void ZstdDeleter::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }
void ZstdDeleter::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

ZstdCompressor make_zstd_compressor(int level) {
  ZstdCompressor context(ZSTD_createCCtx());
  if (!context) throw std::bad_alloc();
  set_zstd_parameter(context.get(), ZSTD_c_compressionLevel, level);
  set_zstd_parameter(context.get(), ZSTD_c_checksumFlag, 0);
  set_zstd_parameter(context.get(), ZSTD_c_contentSizeFlag, 0);
  return context;
}

void set_zstd_parameter(ZSTD_CCtx_s* context, int parameter, int value) {
  const size_t result = ZSTD_CCtx_setParameter(context, static_cast<ZSTD_cParameter>(parameter), value);
  DF_ASSERT(!ZSTD_isError(result), "zstd parameter {} = {}: {}", parameter, value, ZSTD_getErrorName(result));
}

ZstdDecompressor make_zstd_decompressor() {
  ZstdDecompressor context(ZSTD_createDCtx());
  if (!context) throw std::bad_alloc();
  return context;
}

void decode_zstd(ZSTD_DCtx_s* context, std::span<const char> stored, std::span<char> raw) {
  const size_t got = ZSTD_decompressDCtx(context, raw.data(), raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(got)) throw DataError("malformed zstd frame: {}", ZSTD_getErrorName(got));
  if (got != raw.size()) throw DataError("a zstd frame of {} bytes, expected {}", got, raw.size());
}

ZstdCodec::ZstdCodec(int level) : compressor_(make_zstd_compressor(level)), decompressor_(make_zstd_decompressor()) {}

size_t ZstdCodec::bound(size_t raw_bytes) const { return ZSTD_compressBound(raw_bytes); }

size_t ZstdCodec::encode(std::span<const char> raw, DType /*dtype*/, std::span<char> out) {
  DF_ASSERT(out.size() >= bound(raw.size()), "{} bytes for a block of {}", out.size(), raw.size());
  const size_t stored = ZSTD_compress2(compressor_.get(), out.data(), out.size(), raw.data(), raw.size());
  DF_ASSERT(!ZSTD_isError(stored), "{}", ZSTD_getErrorName(stored));
  return stored < raw.size() ? stored : 0;
}

void ZstdCodec::decode(std::span<const char> stored, DType /*dtype*/, std::span<char> raw) {
  decode_zstd(decompressor_.get(), stored, raw);
}

}  // namespace deepflow
