#include <cublasLt.h>
#include <dlfcn.h>

#include <string>

// cuBLASLt, opened at its first use: half a gigabyte that a process without a GPU should not load (0.2 s and 200 MB of
// memory at every start, a second when it is not cached). These functions have the names of the real ones; a function
// that is missing here does not link.
namespace {

void* open_library() {
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  if (void* found = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return found;
  return dlopen((std::string(DEEPFLOW_CUDA_LIBRARY_DIR) + "/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
}

void* symbol(const char* name) {
  static void* const library = open_library();
  return library ? dlsym(library, name) : nullptr;
}

}  // namespace

#define DF_FORWARD(function, ...)                                                    \
  static const auto real = reinterpret_cast<decltype(&function)>(symbol(#function)); \
  return real ? real(__VA_ARGS__) : CUBLAS_STATUS_NOT_INITIALIZED

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { DF_FORWARD(cublasLtCreate, handle); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { DF_FORWARD(cublasLtDestroy, handle); }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  DF_FORWARD(cublasLtMatrixLayoutCreate, layout, type, rows, cols, ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(const cublasLtMatrixLayout_t layout) {
  DF_FORWARD(cublasLtMatrixLayoutDestroy, layout);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  DF_FORWARD(cublasLtMatmulDescCreate, product, compute, scale);
}
cublasStatus_t cublasLtMatmulDescDestroy(const cublasLtMatmulDesc_t product) {
  DF_FORWARD(cublasLtMatmulDescDestroy, product);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  DF_FORWARD(cublasLtMatmulDescSetAttribute, product, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  DF_FORWARD(cublasLtMatmulPreferenceCreate, preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(const cublasLtMatmulPreference_t preference) {
  DF_FORWARD(cublasLtMatmulPreferenceDestroy, preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  DF_FORWARD(cublasLtMatmulPreferenceSetAttribute, preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, const cublasLtMatmulDesc_t product,
                                              const cublasLtMatrixLayout_t a, const cublasLtMatrixLayout_t b,
                                              const cublasLtMatrixLayout_t c, const cublasLtMatrixLayout_t d,
                                              const cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* num_results) {
  DF_FORWARD(cublasLtMatmulAlgoGetHeuristic, handle, product, a, b, c, d, preference, wanted, results, num_results);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, const cublasLtMatmulDesc_t product, const void* alpha,
                              const void* a, const cublasLtMatrixLayout_t a_layout, const void* b,
                              const cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              const cublasLtMatrixLayout_t c_layout, void* d, const cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  DF_FORWARD(cublasLtMatmul, handle, product, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
             algorithm, workspace, workspace_bytes, stream);
}
}
