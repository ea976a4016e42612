#pragma once

#include "core/dtype.h"
#include "core/memory.h"
#include "core/stream.h"

#include <cstdint>
#include <map>
#include <memory>

namespace deepflow::cuda {

// C [m, n] = A [m, k] B [k, n], sums in f32; as GemmShape of kernels/ops/gemm_cache.h, for plain matrices. A and B are
// row-major with a row stride, or transposed: stored [k, m] and [n, k].
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;  // elements
  DType dtype = DType::kF32;          // of A and B: f32 or bf16
  DType c_dtype = DType::kF32;        // f32, or the dtype of A and B
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;  // C += A B
  bool bias = false;        // f32 [n], added to every row; rounded to c_dtype first, as cuBLASLt wants it
  friend auto operator<=>(const GemmShape&, const GemmShape&) = default;
};

// Products through cuBLASLt in the order of one stream, with the algorithm that its heuristic names first for a shape
// and alignment, kept for the life of the object. f32 is f32 (no TF32); split sums are added in f32; the same call
// gives the same bits. Not thread-safe. Stream and memory must outlive it. Throws DeviceError when cuBLASLt is missing
// or has no algorithm.
class Gemm {
 public:
  Gemm(Stream& stream, Allocator& memory, size_t workspace_bytes = size_t{32} << 20);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  void run(const GemmShape& shape, const void* a, const void* b, const float* bias, void* c);

 private:
  struct Key {
    GemmShape shape;
    uint32_t a_alignment, b_alignment, c_alignment;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Choice;

  Choice& find(const Key& key, const void* bias);
  void multiply(const GemmShape& shape, const void* a, const void* b, const void* bias, void* c);
  void clear(const GemmShape& shape, void* c);

  Stream& stream_;
  Allocator& memory_;
  size_t workspace_bytes_;
  void* workspace_ = nullptr;
  void* handle_ = nullptr;
  std::map<Key, std::unique_ptr<Choice>> choices_;
};

}  // namespace deepflow::cuda
