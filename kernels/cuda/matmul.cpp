#include "kernels/cuda/matmul.h"

#include "core/cuda_check.h"
#include "core/error.h"
#include "kernels/cuda/elementwise.h"

#include <cublasLt.h>

#include <algorithm>

namespace deepflow::cuda {
namespace {

constexpr uint32_t kBestAlignment = 256;  // what cuBLASLt distinguishes at most
constexpr uint32_t kBiasAlignment = 16;

void check_cublas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError("cuBLASLt: {} failed: status {}", what, static_cast<int>(status));
}

cudaDataType_t cuda_type(DType dtype) {
  DF_ASSERT(dtype == DType::kF32 || dtype == DType::kBF16, "{}", name_of(dtype));
  return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
}

uint32_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return address == 0 ? kBestAlignment
                      : static_cast<uint32_t>(std::min<uintptr_t>(address & (~address + 1), kBestAlignment));
}

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

// cuBLASLt's matrices are column-major: a row-major [rows, cols] with stride ld is its [cols, rows].
class Layout {
 public:
  Layout(DType dtype, int64_t rows, int64_t cols, int64_t ld) {
    DF_ASSERT(ld >= cols, "row stride {} of {} columns", ld, cols);
    check_cublas(cublasLtMatrixLayoutCreate(&layout_, cuda_type(dtype), static_cast<uint64_t>(cols),
                                            static_cast<uint64_t>(rows), ld),
                 "describing a matrix");
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

// The product as cuBLASLt computes it: C^T = B^T A^T, so its first operand is our B.
class Product {
 public:
  explicit Product(const GemmShape& s) {
    check_cublas(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
    const auto operation = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    set(CUBLASLT_MATMUL_DESC_TRANSA, operation(s.transpose_b));
    set(CUBLASLT_MATMUL_DESC_TRANSB, operation(s.transpose_a));
    if (s.bias) set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  }
  ~Product() { cublasLtMatmulDescDestroy(product_); }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  cublasLtMatmulDesc_t get() const { return product_; }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check_cublas(cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof value), "describing a product");
  }

 private:
  cublasLtMatmulDesc_t product_ = nullptr;
};

class Preference {
 public:
  Preference() { check_cublas(cublasLtMatmulPreferenceCreate(&preference_), "making a preference"); }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  cublasLtMatmulPreference_t get() const { return preference_; }

  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    check_cublas(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof value),
                 "setting a preference");
  }

 private:
  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

struct Gemm::Choice {
  explicit Choice(const GemmShape& s)
      : product(s),
        a(s.dtype, s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.lda),
        b(s.dtype, s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.ldb),
        c(s.c_dtype, s.m, s.n, s.ldc) {}
  Product product;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
};

Gemm::Gemm(Stream& stream, Allocator& memory, size_t workspace_bytes)
    : stream_(stream), memory_(memory), workspace_bytes_(workspace_bytes) {
  cublasLtHandle_t handle = nullptr;
  check_cublas(cublasLtCreate(&handle), "starting the library");
  handle_ = handle;
  workspace_ = memory_.allocate(workspace_bytes_);
}

Gemm::~Gemm() {
  choices_.clear();
  memory_.free(workspace_);
  cublasLtDestroy(static_cast<cublasLtHandle_t>(handle_));
}

Gemm::Choice& Gemm::find(const Key& key, const void* bias) {
  const auto known = choices_.find(key);
  if (known != choices_.end()) return *known->second;
  const GemmShape& s = key.shape;
  auto choice = std::make_unique<Choice>(s);
  if (bias) choice->product.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  Preference preference;
  preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes_);
  preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b_alignment);
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a_alignment);
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.c_alignment);
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.c_alignment);
  cublasLtMatmulHeuristicResult_t found{};
  int num_found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      static_cast<cublasLtHandle_t>(handle_), choice->product.get(), choice->b.get(), choice->a.get(), choice->c.get(),
      choice->c.get(), preference.get(), 1, &found, &num_found);
  if (status != CUBLAS_STATUS_SUCCESS || num_found == 0 || found.state != CUBLAS_STATUS_SUCCESS)
    throw DeviceError("cuBLASLt: no algorithm for {} x {} x {}, {} to {}, row strides {} {} {}: status {}", s.m, s.n,
                      s.k, name_of(s.dtype), name_of(s.c_dtype), s.lda, s.ldb, s.ldc, static_cast<int>(status));
  choice->algorithm = found.algo;
  return *choices_.emplace(key, std::move(choice)).first->second;
}

void Gemm::multiply(const GemmShape& shape, const void* a, const void* b, const void* bias, void* c) {
  Choice& choice = find({shape, alignment_of(a), alignment_of(b), alignment_of(c)}, bias);
  if (bias) choice.product.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  const float alpha = 1, beta = shape.accumulate ? 1 : 0;
  check_cublas(cublasLtMatmul(static_cast<cublasLtHandle_t>(handle_), choice.product.get(), &alpha, b, choice.b.get(),
                              a, choice.a.get(), &beta, c, choice.c.get(), c, choice.c.get(), &choice.algorithm,
                              workspace_, workspace_bytes_, native(stream_)),
               "a product");
}

void Gemm::clear(const GemmShape& s, void* c) {
  const size_t size = size_of(s.c_dtype);
  check_cuda(cudaMemset2DAsync(c, static_cast<size_t>(s.ldc) * size, 0, static_cast<size_t>(s.n) * size,
                               static_cast<size_t>(s.m), native(stream_)),
             "clearing a matrix");
}

void Gemm::run(const GemmShape& shape, const void* a, const void* b, const float* bias, void* c) {
  DF_ASSERT(shape.bias == (bias != nullptr));
  DF_ASSERT(!shape.accumulate || shape.c_dtype == DType::kF32);
  DF_ASSERT(shape.c_dtype == DType::kF32 || shape.c_dtype == shape.dtype);
  if (shape.m == 0 || shape.n == 0) return;
  if (shape.k == 0) {
    DF_ASSERT(!bias);
    if (!shape.accumulate) clear(shape, c);
    return;
  }
  DF_ASSERT(!bias || alignment_of(bias) >= kBiasAlignment, "bias at {}", static_cast<const void*>(bias));
  if (!bias || shape.c_dtype == DType::kF32) {
    multiply(shape, a, b, bias, c);
    return;
  }
  void* rounded = memory_.allocate(static_cast<size_t>(shape.n) * size_of(shape.c_dtype));
  convert(bias, DType::kF32, rounded, shape.c_dtype, shape.n, stream_);
  multiply(shape, a, b, rounded, c);
  memory_.free(rounded);
}

}  // namespace deepflow::cuda
