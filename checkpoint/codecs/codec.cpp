#include "checkpoint/codecs/codec.h"

#include "checkpoint/codecs/delta.h"
#include "checkpoint/codecs/int8.h"
#include "checkpoint/codecs/nf4.h"
#include "checkpoint/codecs/planes.h"
#include "checkpoint/codecs/raw.h"
#include "checkpoint/codecs/zstd.h"
#include "core/error.h"

namespace deepflow {
namespace {

constexpr CodecId kCodecs[] = {CodecId::kRaw,   CodecId::kZstd, CodecId::kPlanes,
                               CodecId::kDelta, CodecId::kNf4,  CodecId::kInt8};

}  // namespace

std::unique_ptr<Codec> make_codec(CodecId id) {
  static const CpuIsa isa = best_isa(detect_cpu());  // reading /proc/cpuinfo takes longer than a block
  return make_codec(id, isa);
}

std::unique_ptr<Codec> make_codec(CodecId id, CpuIsa isa) {
  switch (id) {
    case CodecId::kRaw:
      return std::make_unique<RawCodec>();
    case CodecId::kZstd:
      return std::make_unique<ZstdCodec>();
    case CodecId::kPlanes:
      return std::make_unique<PlanesCodec>(isa);
    case CodecId::kDelta:
      return std::make_unique<DeltaCodec>(isa);
    case CodecId::kNf4:
      return std::make_unique<Nf4Codec>();
    case CodecId::kInt8:
      return std::make_unique<Int8Codec>();
  }
  DF_ASSERT(false, "codec {}", static_cast<int>(id));
  return nullptr;
}

const char* name_of(CodecId id) {
  switch (id) {
    case CodecId::kRaw:
      return "raw";
    case CodecId::kZstd:
      return "zstd";
    case CodecId::kPlanes:
      return "planes";
    case CodecId::kDelta:
      return "delta";
    case CodecId::kNf4:
      return "nf4";
    case CodecId::kInt8:
      return "int8";
  }
  return "";
}

std::optional<CodecId> codec_from_name(std::string_view name) {
  for (const CodecId id : kCodecs)
    if (name == name_of(id)) return id;
  return std::nullopt;
}

std::optional<CodecId> codec_from_number(uint8_t number) {
  for (const CodecId id : kCodecs)
    if (number == static_cast<uint8_t>(id)) return id;
  return std::nullopt;
}

}  // namespace deepflow
