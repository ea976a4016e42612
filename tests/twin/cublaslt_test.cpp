#include "tests/twin/report.h"
#include "tests/twin/twin.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <utility>

// The stand-in for cuBLASLt: one sound product, then one mistake at a time.
namespace {

using twin::Kind;

constexpr int kM = 16, kN = 8, kK = 24;
constexpr size_t kWorkspace = 1 << 16;

struct Product {
  cudaDataType_t type = CUDA_R_32F, out_type = CUDA_R_32F;
  uint64_t c_rows = kM;
  uint32_t promised_alignment = 256;
  uint64_t promised_workspace = kWorkspace;
  size_t given_workspace = kWorkspace;
  int a_shift = 0;           // elements
  int d_elements = kM * kN;  // of the allocation
  float beta = 0;
  bool clear_c = true;
  bool other_problem = false;  // launches with a transposed A that the algorithm was not made for
};

class Bench {
 public:
  Bench() {
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    cublasLtCreate(&handle_);
  }
  ~Bench() {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
    cublasLtDestroy(handle_);
  }
  Bench(const Bench&) = delete;

  // Two products that use one workspace, on two streams without an order between them.
  void share_workspace() {
    cudaStream_t other = nullptr;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    float *a = array(kM * kK, true), *b = array(kK * kN, true), *workspace = array(kWorkspace / sizeof(float), false);
    float *d = array(kM * kN, false), *e = array(kM * kN, false);
    cudaStreamSynchronize(stream_);
    multiply({}, a, b, d, workspace);
    std::swap(stream_, other);
    multiply({}, a, b, e, workspace);
    std::swap(stream_, other);
    cudaStreamSynchronize(other);
    for (float* x : {a, b, d, e, workspace}) cudaFreeAsync(x, stream_);
    cudaStreamDestroy(other);
  }

  // Whether what lay in the workspace is still there after a product.
  bool workspace_kept() {
    float *a = array(kM * kK, true), *b = array(kK * kN, true), *d = array(kM * kN, false);
    float* workspace = array(kWorkspace / sizeof(float), true);
    multiply({}, a, b, d, workspace);
    void* p = nullptr;
    cudaMallocHost(&p, sizeof(float));
    cudaMemcpyAsync(p, workspace, sizeof(float), cudaMemcpyDeviceToHost, stream_);
    for (float* x : {a, b, d, workspace}) cudaFreeAsync(x, stream_);
    cudaStreamSynchronize(stream_);
    const bool kept = *static_cast<float*>(p) == 0;
    cudaFreeHost(p);
    return kept;
  }

  cublasStatus_t run(const Product& p) {
    float* a = array(kM * kM * 2 + 64, true);
    float* b = array(kK * kN, true);
    float* d = array(p.d_elements, p.clear_c);
    float* workspace = array(kWorkspace / sizeof(float), false);
    const cublasStatus_t status = multiply(p, a + p.a_shift, b, d, workspace);
    for (float* x : {a, b, d, workspace}) cudaFreeAsync(x, stream_);
    cudaStreamSynchronize(stream_);
    return status;
  }

 private:
  float* array(size_t n, bool clear) {
    void* p = nullptr;
    cudaMallocAsync(&p, n * sizeof(float), stream_);
    if (clear) cudaMemsetAsync(p, 0, n * sizeof(float), stream_);
    return static_cast<float*>(p);
  }

  cublasStatus_t multiply(const Product& p, const float* a, const float* b, float* d, float* workspace) {
    cublasLtMatmulDesc_t product;
    cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayout_t la, lb, ld;
    cublasLtMatrixLayoutCreate(&la, p.type, kM, kK, kM);
    cublasLtMatrixLayoutCreate(&lb, p.type, kK, kN, kK);
    cublasLtMatrixLayoutCreate(&ld, p.out_type, p.c_rows, kN, static_cast<int64_t>(p.c_rows));
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulPreferenceCreate(&preference);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, p.promised_workspace);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.promised_alignment);
    cublasLtMatmulHeuristicResult_t found{};
    int num_found = 0;
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, product, la, lb, ld, ld, preference, 1, &found, &num_found);
    if (status == CUBLAS_STATUS_SUCCESS) {
      if (p.other_problem) {
        const cublasOperation_t transpose = CUBLAS_OP_T;
        cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose);
      }
      const float alpha = 1;
      status = cublasLtMatmul(handle_, product, &alpha, a, la, b, lb, &p.beta, d, ld, d, ld, &found.algo, workspace,
                              p.given_workspace, stream_);
    }
    cublasLtMatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t l : {la, lb, ld}) cublasLtMatrixLayoutDestroy(l);
    cublasLtMatmulDescDestroy(product);
    return status;
  }

  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
};

void expect_sound(const Product& p) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    twin::start({seed});
    EXPECT_EQ(Bench().run(p), CUBLAS_STATUS_SUCCESS);
    for (const auto& line : twin::take_reports()) ADD_FAILURE() << "seed " << seed << ": " << line;
  }
}

void expect_found(Kind kind, const Product& p) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    twin::start({seed});
    Bench().run(p);
    EXPECT_TRUE(twin::found(kind)) << "seed " << seed << ": no " << twin::kind_name(kind);
  }
}

TEST(CublasLt, SoundProductsAreNotBlamed) {
  expect_sound({});
  expect_sound({.beta = 1});
  expect_sound({.clear_c = false});
  expect_sound({.promised_alignment = 4, .a_shift = 1});
  expect_sound({.type = CUDA_R_16BF, .out_type = CUDA_R_16BF});
  expect_sound({.type = CUDA_R_16BF, .out_type = CUDA_R_32F});
}

TEST(CublasLtMutants, CombinationOfTypes) { expect_found(Kind::kApi, {.type = CUDA_R_32F, .out_type = CUDA_R_16BF}); }
TEST(CublasLtMutants, ShapesThatDoNotMatch) { expect_found(Kind::kApi, {.c_rows = kM - 1}); }
TEST(CublasLtMutants, LessAlignedThanPromised) { expect_found(Kind::kApi, {.a_shift = 1}); }
TEST(CublasLtMutants, OutputPastItsAllocation) { expect_found(Kind::kOutOfBounds, {.d_elements = kM * kN - 1}); }
TEST(CublasLtMutants, AddsToUnwrittenMemory) { expect_found(Kind::kUninitialised, {.beta = 1, .clear_c = false}); }
TEST(CublasLtMutants, AlgorithmOfAnotherProblem) { expect_found(Kind::kApi, {.other_problem = true}); }

TEST(CublasLtMutants, LessWorkspaceThanTheAlgorithmNeeds) {
  int found = 0;  // some algorithms need none
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    twin::start({seed});
    Bench().run({.given_workspace = 0});
    found += twin::found(Kind::kApi);
  }
  EXPECT_GE(found, 15);
}

TEST(CublasLtMutants, WorkspaceSharedByTwoStreams) {
  int found = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    twin::start({seed});
    Bench().share_workspace();
    found += twin::found(Kind::kRace);
  }
  EXPECT_GE(found, 15);
}

TEST(CublasLt, WorkspaceLosesItsContent) {
  int kept = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    twin::start({seed});
    kept += Bench().workspace_kept();
  }
  EXPECT_LE(kept, 5);
}

}  // namespace
