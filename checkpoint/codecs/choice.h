#pragma once

#include "checkpoint/codecs/codec.h"

#include <string>
#include <vector>

namespace deepflow {

struct CodecChoice {
  CodecId codec = CodecId::kRaw;
  double ratio = 1;  // stored over raw bytes of the sample
  std::string text;  // "planes, 0.664 of raw (zstd 0.781)"
};

// Picks the lossless codec for a tensor: raw, zstd or planes. It codes a few pieces spread over the values, so the same
// bytes give the same choice on every machine. A slower codec has to earn its time: planes 2 % of raw; zstd, which
// takes five times as long on weights, 5 % of what planes leave.
class CodecChooser {
 public:
  CodecChooser();
  CodecChoice choose(std::span<const char> values, DType dtype);

 private:
  double ratio(Codec& codec, const std::vector<std::span<const char>>& pieces, DType dtype);

  std::unique_ptr<Codec> planes_, zstd_;
  std::vector<char> out_;
};

}  // namespace deepflow
