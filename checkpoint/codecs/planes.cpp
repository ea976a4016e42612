#include "checkpoint/codecs/planes.h"

#include "checkpoint/codecs/huffman_frame.h"
#include "core/error.h"
#include "kernels/ops/byte_planes.h"
#include "kernels/ops/huffman_codes.h"

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include <cstring>
#include <limits>

namespace deepflow {
namespace {

enum Mode : uint8_t { kStored = 0, kConstant = 1, kFrame = 2, kOffsetFrame = 3 };
constexpr size_t kHeader = 5, kMostPlanes = 8;

bool is_rotated(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

void put_header(char* at, uint8_t mode, size_t length) {
  const uint32_t n = static_cast<uint32_t>(length);
  at[0] = static_cast<char>(mode);
  for (int b = 0; b < 4; ++b) at[1 + b] = static_cast<char>(n >> (8 * b));
}

size_t length_in(const char* header) {
  uint32_t n = 0;
  for (int b = 0; b < 4; ++b) n |= uint32_t{static_cast<uint8_t>(header[1 + b])} << (8 * b);
  return n;
}

bool is_constant(const char* plane, size_t n) { return std::memcmp(plane, plane + 1, n - 1) == 0; }

// Planes in scratch memory do not start at the same place of a page: their lines would meet in the same sets of caches.
size_t stride(size_t n) { return n + 192; }

// A plane that is coded has to save a 64th, or reading it back is not worth the time.
bool is_worth(size_t stored, size_t n) { return stored + n / 64 < n; }

// A look at kRuns runs of values spread over the block. With c values of a kind among N, sum c (c - 1) / (N (N - 1))
// estimates the sum of squared probabilities; times 256 it is 1 for noise, and no code can save more bits a byte than
// its logarithm: 0.14 for kNoise, in mantissas half of that.
constexpr size_t kRuns = 16, kRunValues = 64, kSampled = kRuns * kRunValues;
constexpr double kNoise = 1.1;

bool looks_like_noise(const uint8_t* bytes) {
  uint32_t counts[256] = {};
  for (size_t i = 0; i < kSampled; ++i) ++counts[bytes[i]];
  uint64_t pairs = 0;
  for (const uint64_t c : counts)
    if (c > 1) pairs += c * (c - 1);
  return 256.0 * static_cast<double>(pairs) < kNoise * static_cast<double>(kSampled * (kSampled - 1));
}

// Which planes are not worth a try, as bits. A block that the sample would not be much smaller than: none.
uint32_t planes_of_noise(CpuIsa isa, const char* values, size_t n, size_t width, bool rotate) {
  if (n < 2 * kSampled) return 0;
  char sample[kMostPlanes * kSampled];
  for (size_t run = 0; run < kRuns; ++run) {
    char* planes[kMostPlanes];
    for (size_t p = 0; p < width; ++p) planes[p] = sample + p * kSampled + run * kRunValues;
    const size_t first = (n - kRunValues) / (kRuns - 1) * run;
    split_byte_planes(isa, values + first * width, kRunValues, rotate, {planes, width});
  }
  uint32_t noise = 0;
  for (size_t p = 0; p < width; ++p)
    if (looks_like_noise(reinterpret_cast<const uint8_t*>(sample + p * kSampled))) noise |= 1u << p;
  return noise;
}

}  // namespace

PlanesCodec::PlanesCodec(CpuIsa isa)
    : isa_(isa), compressor_(make_zstd_compressor(ZSTD_minCLevel())), decompressor_(make_zstd_decompressor()) {
  // The strongest negative level steps over everything; literals would stay as they are, were their code not asked for.
  // The tables for matches are cleared with every frame, so they are small.
  set_zstd_parameter(compressor_.get(), ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
  set_zstd_parameter(compressor_.get(), ZSTD_c_hashLog, ZSTD_HASHLOG_MIN);
  set_zstd_parameter(compressor_.get(), ZSTD_c_chainLog, ZSTD_CHAINLOG_MIN);
}

// The Huffman coder is at its best with half as much room again as it has input.
size_t PlanesCodec::bound(size_t raw_bytes) const { return raw_bytes + raw_bytes / 2 + 1024; }

char* PlanesCodec::scratch_for(size_t num_planes, size_t n) {
  if (scratch_.size() < num_planes * stride(n)) scratch_.resize(num_planes * stride(n));
  return scratch_.data();
}

PlanesCodec::Content PlanesCodec::put_plane(std::span<const char> plane, std::span<char> out) {
  const size_t n = plane.size();
  if (is_constant(plane.data(), n)) {
    out[0] = plane[0];
    return {kConstant, 1};
  }
  if (const auto frame = write_huffman_frame(isa_, plane, out.subspan(1))) {
    out[0] = static_cast<char>(frame->base);
    return is_worth(frame->length + 1, n) ? Content{kOffsetFrame, frame->length + 1} : Content{kStored, n};
  }
  const size_t coded = ZSTD_compress2(compressor_.get(), out.data(), out.size(), plane.data(), n);
  DF_ASSERT(!ZSTD_isError(coded), "{}", ZSTD_getErrorName(coded));
  return is_worth(coded, n) ? Content{kFrame, coded} : Content{kStored, n};
}

size_t PlanesCodec::encode(std::span<const char> raw, DType dtype, std::span<char> out) {
  DF_ASSERT(out.size() >= bound(raw.size()) && raw.size() <= std::numeric_limits<uint32_t>::max(),
            "{} bytes for a block of {}", out.size(), raw.size());
  const size_t width = size_of(dtype), n = raw.size() / width, tail = raw.size() % width;
  if (n == 0) return 0;
  const bool rotate = is_rotated(dtype);
  const uint32_t noise = planes_of_noise(isa_, raw.data(), n, width, rotate);
  char* planes[kMostPlanes];
  char* scratch = scratch_for(width, n);
  size_t at = width * kHeader;
  // The place of planes in front of the first that is coded is known: they are split into it.
  for (size_t p = 0; p < width; ++p) {
    const bool in_place = (noise & ((2u << p) - 1)) == (2u << p) - 1;
    planes[p] = in_place ? out.data() + at + p * n : scratch + p * stride(n);
  }
  split_byte_planes(isa_, raw.data(), static_cast<int64_t>(n), rotate, {planes, width});
  for (size_t p = 0; p < width; ++p) {
    const std::span<char> rest = out.subspan(at);
    const auto [mode, length] = (noise >> p & 1) != 0 ? Content{kStored, n} : put_plane({planes[p], n}, rest);
    if (mode == kStored && rest.data() != planes[p]) std::memcpy(rest.data(), planes[p], n);
    put_header(out.data() + p * kHeader, mode, length);
    at += length;
  }
  std::memcpy(out.data() + at, raw.data() + n * width, tail);
  return at + tail < raw.size() ? at + tail : 0;
}

void PlanesCodec::decode(std::span<const char> stored, DType dtype, std::span<char> raw) {
  const size_t width = size_of(dtype), n = raw.size() / width, tail = raw.size() % width;
  if (stored.size() < width * kHeader) throw DataError("{} bytes, less than the headers of planes", stored.size());
  const char* planes[kMostPlanes];
  char* scratch = scratch_for(width, n);
  std::span<const char> rest = stored.subspan(width * kHeader);
  for (size_t p = 0; p < width; ++p) {
    const char* header = stored.data() + p * kHeader;
    const uint8_t mode = static_cast<uint8_t>(header[0]);
    const size_t length = length_in(header);
    if (length > rest.size()) throw DataError("plane {} has {} bytes, {} are left", p, length, rest.size());
    const std::span<const char> content = rest.first(length);
    rest = rest.subspan(length);
    const std::span<char> plane(scratch + p * stride(n), n);
    planes[p] = plane.data();
    if (mode == kStored && length == n) {
      planes[p] = content.data();
    } else if (mode == kConstant && length == 1) {
      std::memset(plane.data(), content[0], n);
    } else if (mode == kFrame) {
      decode_zstd(decompressor_.get(), content, plane);
    } else if (mode == kOffsetFrame && length >= 1) {
      decode_zstd(decompressor_.get(), content.subspan(1), plane);
      add_to_bytes(isa_, plane, static_cast<uint8_t>(content[0]));
    } else {
      throw DataError("plane {} of {} values has mode {} and {} bytes", p, n, mode, length);
    }
  }
  if (rest.size() != tail) throw DataError("{} bytes behind the planes, expected {}", rest.size(), tail);
  join_byte_planes(isa_, {planes, width}, static_cast<int64_t>(n), is_rotated(dtype), raw.data());
  if (tail != 0) std::memcpy(raw.data() + n * width, rest.data(), tail);
}

}  // namespace deepflow
