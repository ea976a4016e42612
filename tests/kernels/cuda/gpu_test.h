#pragma once

#include "core/cuda_memory.h"
#include "core/cuda_stream.h"
#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

namespace deepflow {

// A GPU, or the twin, with arrays that go back to it by themselves. One for each run of a test body.
class Gpu {
 public:
  Gpu();
  ~Gpu();
  Gpu(const Gpu&) = delete;

  Stream& stream() { return *stream_; }
  Allocator& memory() { return *memory_; }

  // Not initialised; for scratch and results.
  template <class T>
  T* empty(int64_t n) {
    blocks_.push_back(memory_->allocate(static_cast<size_t>(n) * sizeof(T)));
    return static_cast<T*>(blocks_.back());
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    T* p = empty<T>(static_cast<int64_t>(values.size()));
    copy_in(p, values.data(), values.size() * sizeof(T));
    return p;
  }
  template <class T>
  std::vector<T> download(const T* p, int64_t n) {
    std::vector<T> values(static_cast<size_t>(n));
    copy_out(values.data(), p, values.size() * sizeof(T));
    return values;
  }

 private:
  void copy_in(void* device, const void* host, size_t bytes);
  void copy_out(void* host, const void* device, size_t bytes);

  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Allocator> memory_, pinned_;
  std::vector<void*> blocks_;
};

// What must come out the same every time, byte by byte.
class Bits {
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    const auto* p = reinterpret_cast<const char*>(values.data());
    bytes_.insert(bytes_.end(), p, p + values.size() * sizeof(T));
  }
  bool operator==(const Bits&) const = default;

 private:
  std::vector<char> bytes_;
};

// Runs the body three times, on the twin under three seeds: the same bits each time, no report, no leak.
void repeat(const std::function<Bits(Gpu&)>& body);

// Numbers near N(0, 1), drawn from `seed` alone.
std::vector<float> normal(int64_t n, unsigned seed);
std::vector<BF16> normal_bf16(int64_t n, unsigned seed);
template <class T>
std::vector<T> normal_as(int64_t n, unsigned seed) {
  if constexpr (std::is_same_v<T, float>) {
    return normal(n, seed);
  } else {
    return normal_bf16(n, seed);
  }
}

// |got - want| <= tolerance * (1 + |want|) everywhere.
template <class T>
void expect_close(const std::vector<T>& got, const std::vector<double>& want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    const double value = to_float(got[i]);
    ASSERT_LE(std::abs(value - want[i]), tolerance * (1 + std::abs(want[i]))) << what << "[" << i << "]";
  }
}

// Rounding of one result to T.
template <class T>
constexpr double kRounding = std::is_same_v<T, float> ? 1e-6 : 4e-3;

}  // namespace deepflow
