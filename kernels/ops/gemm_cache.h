#pragma once

#include "core/dtype.h"
#include "core/runtime.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <array>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace deepflow {

// C [m, n] = A [m, k] B [k, n], sums in f32. A and B are row-major with a row stride, or transposed: stored [k, m] and
// [n, k]. B may instead be packed.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;  // elements; ldb is 0 for packed B
  DType dtype = DType::kF32;          // of A and B
  DType c_dtype = DType::kF32;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;  // C += A B
  bool bias = false;        // f32 [n], added to every row
  bool packed_b() const { return ldb == 0; }
  friend bool operator==(const GemmShape&, const GemmShape&) = default;
};

// oneDNN's matrix products for one runtime: a primitive costs 0.3 ms to make and microseconds to find again. Lives in
// a slot of the runtime; thread-safe.
//
// A runtime that forces a lesser instruction set binds oneDNN to it as well, but oneDNN takes such a limit for the
// whole process and only before its first use: of several runtimes in one process the first decides.
class GemmCache {
 public:
  static GemmCache& of(Runtime& runtime);

  // False: this runtime multiplies bf16 matrices by way of f32 copies (the caller makes them).
  bool has_bf16() const { return has_bf16_; }

  void run(Runtime& runtime, const GemmShape& shape, const void* a, const void* b, const float* bias, void* c);

  // The layout that oneDNN likes best for a B of these extents, the same whatever m. Unused elements are zero.
  size_t packed_bytes(DType dtype, int64_t k, int64_t n);
  // Bytes from one panel of 64 columns to the next where that layout is the one of kernels/cpu/few_rows.h, else 0.
  int64_t panel_bytes(DType dtype, int64_t k, int64_t n);
  // source: B [k, n] row-major, or stored [n, k] when transposed, row stride ld.
  void pack(Runtime& runtime, DType dtype, int64_t k, int64_t n, const void* source, DType source_dtype, int64_t ld,
            bool transposed, void* packed);

 private:
  // Primitives, the memory objects they run on, and the arguments in the form that the C interface wants.
  struct Gemm {
    dnnl::matmul primitive;
    dnnl::memory a, b, bias, c, scratchpad;
    size_t scratchpad_bytes = 0;
    std::array<dnnl_exec_arg_t, 5> arguments{};
    int num_arguments = 0;
  };
  struct PackKey {
    DType dtype, source_dtype;
    int64_t k, n, ld;  // ld 0: the layout itself, not a way to it
    bool transposed;
    friend bool operator==(const PackKey&, const PackKey&) = default;
  };
  struct Packing {
    dnnl::reorder primitive;
    dnnl::memory from, to, scratchpad;
    size_t scratchpad_bytes = 0;
  };
  struct Hash {
    size_t operator()(const GemmShape& s) const;
    size_t operator()(const PackKey& key) const;
  };

  void start(const Runtime& runtime);
  Gemm& find(const GemmShape& shape);
  Packing& find(const PackKey& key);
  const dnnl::memory::desc& packed_layout(DType dtype, int64_t k, int64_t n);

  std::mutex mutex_;
  bool started_ = false, has_bf16_ = false;
  std::optional<dnnl::engine> engine_;
  std::optional<dnnl::stream> stream_;
  std::unordered_map<GemmShape, Gemm, Hash> gemms_;
  std::unordered_map<PackKey, dnnl::memory::desc, Hash> layouts_;
  std::unordered_map<PackKey, Packing, Hash> packings_;
};

}  // namespace deepflow
