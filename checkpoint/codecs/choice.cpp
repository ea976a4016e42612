#include "checkpoint/codecs/choice.h"

#include <fmt/format.h>

#include <algorithm>

namespace deepflow {
namespace {

constexpr size_t kPieceBytes = 64 << 10, kMostPieces = 4;
constexpr double kPlanesOverRaw = 0.98, kZstdOverPlanes = 0.95;

// All of it when it is small, else kMostPieces pieces from the first to the last values.
std::vector<std::span<const char>> pieces_of(std::span<const char> values, size_t width) {
  if (values.size() <= kMostPieces * kPieceBytes) return {values};
  std::vector<std::span<const char>> pieces;
  const size_t step = (values.size() - kPieceBytes) / (kMostPieces - 1) / width * width;
  for (size_t i = 0; i < kMostPieces; ++i) pieces.push_back(values.subspan(i * step, kPieceBytes));
  return pieces;
}

}  // namespace

CodecChooser::CodecChooser() : planes_(make_codec(CodecId::kPlanes)), zstd_(make_codec(CodecId::kZstd)) {}

double CodecChooser::ratio(Codec& codec, const std::vector<std::span<const char>>& pieces, DType dtype) {
  size_t raw = 0, stored = 0;
  for (const std::span<const char> piece : pieces) {
    out_.resize(std::max(out_.size(), codec.bound(piece.size())));
    const size_t coded = codec.encode(piece, dtype, out_);
    raw += piece.size();
    stored += coded == 0 ? piece.size() : coded;
  }
  return raw == 0 ? 1 : static_cast<double>(stored) / static_cast<double>(raw);
}

CodecChoice CodecChooser::choose(std::span<const char> values, DType dtype) {
  const auto pieces = pieces_of(values, size_of(dtype));
  const double planes = ratio(*planes_, pieces, dtype), zstd = ratio(*zstd_, pieces, dtype);
  const bool planes_pays = planes < kPlanesOverRaw;
  const double without_zstd = planes_pays ? planes : 1;
  if (zstd < kZstdOverPlanes * without_zstd)
    return {CodecId::kZstd, zstd, fmt::format("zstd, {:.3f} of raw (planes {:.3f})", zstd, planes)};
  if (planes_pays) return {CodecId::kPlanes, planes, fmt::format("planes, {:.3f} of raw (zstd {:.3f})", planes, zstd)};
  return {CodecId::kRaw, 1, fmt::format("raw (planes {:.3f}, zstd {:.3f})", planes, zstd)};
}

}  // namespace deepflow
