#pragma once

#include "checkpoint/codecs/codec.h"

namespace deepflow {

constexpr size_t kScaledGroup = 64;

// Values in groups of 64, each as a code for its quotient by the largest magnitude of its group.
//
//   block = scale{ceil(n / 64)} codes    n = raw bytes / bytes of a value
//   scale = largest magnitude, a value of the tensor's own dtype (so it is exact): finite, not negative
//   codes = of 4 bits: ceil(n / 2) bytes, the first of two in the low half; of 8 bits: n bytes
//
// For f32 and bf16, whole values, all finite; encode returns 0 for others. Decode rounds to the dtype once.
class ScaledGroupsCodec : public Codec {
 public:
  bool is_lossy() const override { return true; }
  size_t bound(size_t raw_bytes) const override { return raw_bytes; }
  size_t encode(std::span<const char> raw, DType dtype, std::span<char> out) override;
  void decode(std::span<const char> stored, DType dtype, std::span<char> raw) override;

 protected:
  ScaledGroupsCodec(int code_bits, const float (&levels)[256]) : code_bits_(code_bits), levels_(levels) {}

 private:
  // The codes of kScaledGroup quotients from -1 to 1.
  virtual void nearest_codes(const float* quotients, uint8_t* codes) const = 0;
  size_t code_bytes(size_t num_values) const { return (num_values * static_cast<size_t>(code_bits_) + 7) / 8; }
  template <class T>
  size_t encode_values(const char* raw, size_t n, char* out) const;
  template <class T>
  void decode_values(const char* stored, size_t n, char* raw) const;

  int code_bits_;
  const float (&levels_)[256];  // what each code stands for
};

}  // namespace deepflow
