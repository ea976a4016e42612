#pragma once

#include "core/cpu_features.h"
#include "core/dtype.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace deepflow {

// How the bytes of a block are stored. The numbers are part of the format.
enum class CodecId : uint8_t { kRaw = 0, kZstd = 1, kPlanes = 2, kDelta = 3, kNf4 = 4, kInt8 = 5 };

// Turns the bytes of one block into fewer, and back. `dtype` says what the bytes are; lengths that are no multiple of
// its size are allowed. An object has scratch memory of its own and serves one thread. The same bytes come out on every
// machine, whatever its instruction set.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecId id() const = 0;
  virtual bool is_lossy() const { return false; }  // decode gives other values of the same dtype
  // How many bytes `out` of encode must have.
  virtual size_t bound(size_t raw_bytes) const = 0;
  // Returns the length of what it wrote, less than raw.size(). 0: it would not be smaller, or the codec cannot hold
  // such values; the block is to be stored raw.
  virtual size_t encode(std::span<const char> raw, DType dtype, std::span<char> out) = 0;
  // Fills `raw`, whose length is known beforehand. Nothing is believed of `stored`: a DataError of a few words (the
  // caller adds where) for whatever is malformed, nothing outside of either is touched.
  virtual void decode(std::span<const char> stored, DType dtype, std::span<char> raw) = 0;
};

// `isa` is only for tests: the variant of the kernels instead of the best one of this machine.
std::unique_ptr<Codec> make_codec(CodecId id);
std::unique_ptr<Codec> make_codec(CodecId id, CpuIsa isa);
const char* name_of(CodecId id);  // "raw", "zstd", "planes", "delta", "nf4", "int8"
std::optional<CodecId> codec_from_name(std::string_view name);
std::optional<CodecId> codec_from_number(uint8_t number);  // of a file

}  // namespace deepflow
