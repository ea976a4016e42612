// A checkpoint's block: a codec, a dtype and a raw length, then what is stored. The same bytes are also coded
// themselves.
#include "checkpoint/codecs/codec.h"
#include "core/error.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <vector>

namespace deepflow::fuzz {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kU8};
constexpr int kNumCodecs = 6;

Codec& codec_of(uint8_t number) {
  static std::vector<std::unique_ptr<Codec>> codecs;
  for (size_t i = codecs.size(); i < kNumCodecs; ++i) codecs.push_back(make_codec(static_cast<CodecId>(i)));
  return *codecs[number % kNumCodecs];
}

// What is coded comes back; nothing coded is larger than its bound.
void code_and_back(Codec& codec, DType dtype, const std::vector<char>& raw) {
  std::vector<char> out(codec.bound(raw.size())), back(raw.size());
  const size_t length = codec.encode(raw, dtype, out);
  if (length == 0) return;
  expect(length < raw.size() && length <= out.size(), "a block that is coded is smaller");
  const std::vector<char> stored(out.begin(), out.begin() + static_cast<ptrdiff_t>(length));
  codec.decode(stored, dtype, back);
  expect(codec.is_lossy() || back == raw, "a block comes back as it was");
}

}  // namespace

void run_input(std::string_view bytes) {
  if (bytes.size() < 4) return;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  Codec& codec = codec_of(byte(0));
  const DType dtype = kDTypes[byte(1) % std::size(kDTypes)];
  // Buffers of their exact length, so that a step outside is seen.
  const std::vector<char> rest(bytes.begin() + 4, bytes.end());
  code_and_back(codec, dtype, rest);
  std::vector<char> raw(size_t{byte(2)} | size_t{byte(3)} << 8);
  codec.decode(rest, dtype, raw);
}

std::vector<std::string> seeds(const std::string&) {
  std::vector<std::string> all;
  for (uint8_t number = 0; number < kNumCodecs; ++number) {
    for (size_t d = 0; d < std::size(kDTypes); ++d) {
      std::vector<char> raw(1536);
      for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<char>(i % 4 == 3 ? 0x3f : i * i / 7);
      Codec& codec = codec_of(number);
      std::vector<char> out(codec.bound(raw.size()));
      const size_t length = codec.encode(raw, kDTypes[d], out);
      std::string head = {static_cast<char>(number), static_cast<char>(d), '\0', '\6'};
      all.push_back(head + std::string(out.data(), length));
      if (d == 0) all.push_back(head + std::string(raw.begin(), raw.end()));
    }
  }
  return all;
}

}  // namespace deepflow::fuzz
