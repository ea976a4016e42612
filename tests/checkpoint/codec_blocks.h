#pragma once

#include "core/dtype.h"

#include <cstring>
#include <random>
#include <vector>

namespace deepflow::testing {

// Blocks of bytes to code.

template <class T>
std::vector<char> bytes_of(const std::vector<T>& values) {
  std::vector<char> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <class T>
std::vector<T> values_in(const std::vector<char>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

inline std::vector<float> gaussian(size_t n, float deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(n);
  for (float& x : values) x = normal(random);
  return values;
}

inline std::vector<BF16> rounded(const std::vector<float>& values) {
  std::vector<BF16> result;
  for (const float x : values) result.push_back(to_bf16(x));
  return result;
}

// `bytes` bytes of weights as the dtype holds them; integers count up slowly.
inline std::vector<char> weights(DType dtype, size_t bytes, unsigned seed = 1) {
  const size_t n = bytes / size_of(dtype) + 1;
  const std::vector<float> values = gaussian(n, 0.02f, seed);
  std::vector<char> result(n * size_of(dtype));
  for (size_t i = 0; i < n; ++i) {
    char* at = result.data() + i * size_of(dtype);
    const int64_t counter = static_cast<int64_t>(i / 3) - 100;
    const BF16 bf16 = to_bf16(values[i]);
    const F16 f16 = to_f16(values[i]);
    switch (dtype) {
      case DType::kF32:
        std::memcpy(at, &values[i], 4);
        break;
      case DType::kBF16:
        std::memcpy(at, &bf16, 2);
        break;
      case DType::kF16:
        std::memcpy(at, &f16, 2);
        break;
      default:
        std::memcpy(at, &counter, size_of(dtype));
    }
  }
  result.resize(bytes);
  return result;
}

inline std::vector<char> noise(size_t bytes, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<char> result(bytes);
  for (char& byte : result) byte = static_cast<char>(random());
  return result;
}

}  // namespace deepflow::testing
