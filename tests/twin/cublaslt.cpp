#include "tests/twin/address_space.h"
#include "tests/twin/arena.h"
#include "tests/twin/graph.h"
#include "tests/twin/order.h"

#include <cublasLt.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// A strict stand-in for cuBLASLt: only combinations known to exist, an algorithm only for the problem and alignment it
// was asked for, extents against the allocations, a workspace that loses its content, C read only when beta is not 0.
struct cublasLtContext {};

namespace twin {
namespace {

struct Layout {
  cudaDataType type;
  uint64_t rows, cols;
  int64_t ld;
  bool operator==(const Layout&) const = default;
};

struct Product {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // A, B, C, D
};

// What the opaque algorithm holds.
struct Algorithm {
  uint64_t problem;  // index into `problems`
  uint64_t workspace;
  uint32_t alignment[4];
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

using Problem = std::tuple<int, int, int, int, int, Layout, Layout, Layout, Layout>;
std::vector<Problem> problems(1);  // index 0: none

Problem problem_of(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  return {p.compute, p.scale, p.transpose_a, p.transpose_b, p.epilogue, a, b, c, d};
}

template <class T, class Opaque>
T& from(Opaque handle) {
  return *reinterpret_cast<T*>(handle);
}

cublasStatus_t refuse(const std::string& why, cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE) {
  report(Kind::kApi, "cuBLASLt: " + why);
  return status;
}

template <class T>
cublasStatus_t take(T& into, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return refuse("an attribute of " + std::to_string(bytes) + " bytes");
  std::memcpy(&into, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

size_t bytes_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

bool known_types(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  if (p.compute != CUBLAS_COMPUTE_32F || p.scale != CUDA_R_32F || a.type != b.type || c.type != d.type) return false;
  if (a.type == CUDA_R_32F) return c.type == CUDA_R_32F;
  return a.type == CUDA_R_16BF && (c.type == CUDA_R_16BF || c.type == CUDA_R_32F);
}

struct Extents {
  int64_t m, n, k;
};

// Column-major extents of the product, or what does not fit.
std::string check_extents(const Product& p, const Layout& a, const Layout& b, const Layout& d, Extents& e) {
  const bool ta = p.transpose_a == CUBLAS_OP_T, tb = p.transpose_b == CUBLAS_OP_T;
  e = {static_cast<int64_t>(d.rows), static_cast<int64_t>(d.cols), static_cast<int64_t>(ta ? a.rows : a.cols)};
  if (e.m <= 0 || e.n <= 0 || e.k <= 0) return "an empty matrix";
  if (static_cast<int64_t>(ta ? a.cols : a.rows) != e.m) return "rows of A and D differ";
  if (static_cast<int64_t>(tb ? b.rows : b.cols) != e.n) return "columns of B and D differ";
  if (static_cast<int64_t>(tb ? b.cols : b.rows) != e.k) return "A and B do not match";
  for (const Layout* l : {&a, &b, &d}) {
    if (l->ld < static_cast<int64_t>(l->rows)) return "a leading dimension less than the rows";
  }
  return "";
}

float load(const void* p, cudaDataType type, int64_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(p)[i];
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(p)[i]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void store(void* p, cudaDataType type, int64_t i, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(p)[i] = value;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const bool nan = std::isnan(value);
  static_cast<uint16_t*>(p)[i] =
      static_cast<uint16_t>(nan ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to nearest even
}

struct Call {
  Product product;
  Layout a, b, c, d;
  const void *a_data, *b_data, *c_data;
  void *d_data, *workspace;
  float alpha, beta;
  Extents extents;
  uint64_t workspace_bytes;
};

bool touch_matrix(const void* p, const Layout& l, bool write, unsigned by, const char* what) {
  for (uint64_t column = 0; column < l.cols; ++column) {
    const char* begin = static_cast<const char*>(p) + column * static_cast<uint64_t>(l.ld) * bytes_of(l.type);
    if (!touch_device(begin, l.rows * bytes_of(l.type), write, by, what)) return false;
  }
  return true;
}

bool touch_all(const Call& call, unsigned by) {
  const Product& p = call.product;
  if (!touch_matrix(call.a_data, call.a, false, by, "cuBLASLt A")) return false;
  if (!touch_matrix(call.b_data, call.b, false, by, "cuBLASLt B")) return false;
  if (call.beta != 0 && !touch_matrix(call.c_data, call.c, false, by, "cuBLASLt C")) return false;
  if (p.epilogue == CUBLASLT_EPILOGUE_BIAS &&
      !touch_device(p.bias, call.d.rows * bytes_of(call.d.type), false, by, "cuBLASLt bias")) {
    return false;
  }
  if (!touch_device(call.workspace, call.workspace_bytes, true, by, "cuBLASLt workspace")) return false;
  return touch_matrix(call.d_data, call.d, true, by, "cuBLASLt D");
}

void multiply(const Call& call, unsigned by) {
  if (!touch_all(call, by)) return;
  const OpenArena open;
  if (call.workspace_bytes > 0) std::memset(call.workspace, 0xa5, call.workspace_bytes);
  const Product& p = call.product;
  const bool ta = p.transpose_a == CUBLAS_OP_T, tb = p.transpose_b == CUBLAS_OP_T;
  for (int64_t j = 0; j < call.extents.n; ++j) {
    for (int64_t i = 0; i < call.extents.m; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < call.extents.k; ++k) {
        sum += static_cast<double>(load(call.a_data, call.a.type, ta ? k + i * call.a.ld : i + k * call.a.ld)) *
               load(call.b_data, call.b.type, tb ? j + k * call.b.ld : k + j * call.b.ld);
      }
      float value = call.alpha * static_cast<float>(sum);
      if (call.beta != 0) value += call.beta * load(call.c_data, call.c.type, i + j * call.c.ld);
      if (p.epilogue == CUBLASLT_EPILOGUE_BIAS) value += load(p.bias, call.d.type, i);
      store(call.d_data, call.d.type, i + j * call.d.ld, value);
    }
  }
}

bool aligned(const void* p, uint64_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

// What a launch must satisfy; empty when all is well.
std::string check_call(const Call& call, const Algorithm& algorithm, uint64_t workspace_given) {
  const Product& p = call.product;
  if (algorithm.problem == 0 || algorithm.problem >= problems.size() ||
      problems[algorithm.problem] != problem_of(p, call.a, call.b, call.c, call.d)) {
    return "the algorithm was made for another problem";
  }
  const void* const operands[] = {call.a_data, call.b_data, call.c_data, call.d_data};
  for (int i = 0; i < 4; ++i) {
    if (!in_device(operands[i])) return "an operand that is not device memory";
    if (!aligned(operands[i], algorithm.alignment[i]))
      return "an operand less aligned than the algorithm was asked for";
  }
  if (call.c_data == call.d_data && !(call.c == call.d)) return "C in place of D with another layout";
  if (algorithm.workspace > workspace_given) return "less workspace than the algorithm needs";
  if (algorithm.workspace > 0 && (!in_device(call.workspace) || !aligned(call.workspace, 256))) {
    return "a workspace that is not device memory aligned to 256 bytes";
  }
  if (p.epilogue == CUBLASLT_EPILOGUE_BIAS && (!in_device(p.bias) || !aligned(p.bias, 16))) {
    return "a bias that is not device memory aligned to 16 bytes";
  }
  return "";
}

}  // namespace
}  // namespace twin

using twin::from;
using twin::refuse;
using twin::take;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new twin::Layout{type, rows, cols, ld});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(const cublasLtMatrixLayout_t layout) {
  delete &from<twin::Layout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *product = reinterpret_cast<cublasLtMatmulDesc_t>(new twin::Product{compute, scale});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(const cublasLtMatmulDesc_t product) {
  delete &from<twin::Product>(product);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  auto& p = from<twin::Product>(product);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(p.transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(p.transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(p.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(p.bias, value, bytes);
    default:
      return refuse("an attribute of the product that the twin does not know");
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new twin::Preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(const cublasLtMatmulPreference_t preference) {
  delete &from<twin::Preference>(preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  auto& p = from<twin::Preference>(preference);
  uint32_t scheme;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(p.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return take(p.alignment[0], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return take(p.alignment[1], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return take(p.alignment[2], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(p.alignment[3], value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(scheme, value, bytes);
    default:
      return refuse("a preference that the twin does not know");
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, const cublasLtMatmulDesc_t product,
                                              const cublasLtMatrixLayout_t a, const cublasLtMatrixLayout_t b,
                                              const cublasLtMatrixLayout_t c, const cublasLtMatrixLayout_t d,
                                              const cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* num_results) {
  *num_results = 0;
  const auto& p = from<twin::Product>(product);
  const auto &la = from<twin::Layout>(a), &lb = from<twin::Layout>(b), &lc = from<twin::Layout>(c),
             &ld = from<twin::Layout>(d);
  if (!handle || wanted < 1) return refuse("no handle, or no algorithm wanted");
  twin::Extents extents;
  const std::string wrong = twin::check_extents(p, la, lb, ld, extents);
  if (!wrong.empty()) return refuse(wrong);
  if (lc.rows != ld.rows || lc.cols != ld.cols) return refuse("C and D differ in shape");
  if (!twin::known_types(p, la, lb, lc, ld)) return refuse("a combination of types", CUBLAS_STATUS_NOT_SUPPORTED);
  if (p.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.epilogue != CUBLASLT_EPILOGUE_BIAS) {
    return refuse("an epilogue that the twin does not know", CUBLAS_STATUS_NOT_SUPPORTED);
  }
  const auto& wish = from<twin::Preference>(preference);
  twin::Algorithm algorithm{};
  algorithm.problem = twin::problems.size();
  algorithm.workspace = twin::random_below(wish.workspace / 256 + 1) % 64 * 256;
  std::memcpy(algorithm.alignment, wish.alignment, sizeof algorithm.alignment);
  twin::problems.push_back(twin::problem_of(p, la, lb, lc, ld));
  results[0] = {};
  std::memcpy(&results[0].algo, &algorithm, sizeof algorithm);
  results[0].workspaceSize = algorithm.workspace;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *num_results = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, const cublasLtMatmulDesc_t product, const void* alpha,
                              const void* a, const cublasLtMatrixLayout_t a_layout, const void* b,
                              const cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              const cublasLtMatrixLayout_t c_layout, void* d, const cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  if (!handle || !algorithm) return refuse("a product without handle or algorithm");
  twin::Call call{from<twin::Product>(product),
                  from<twin::Layout>(a_layout),
                  from<twin::Layout>(b_layout),
                  from<twin::Layout>(c_layout),
                  from<twin::Layout>(d_layout),
                  a,
                  b,
                  c,
                  d,
                  workspace,
                  *static_cast<const float*>(alpha),
                  *static_cast<const float*>(beta),
                  {},
                  0};
  twin::Algorithm chosen;
  std::memcpy(&chosen, algorithm, sizeof chosen);
  const std::string wrong = twin::check_call(call, chosen, workspace_bytes);
  if (!wrong.empty()) return refuse(wrong);
  twin::check_extents(call.product, call.a, call.b, call.d, call.extents);
  call.workspace_bytes = chosen.workspace;
  const cudaError_t error = twin::submit(
      stream, [call](unsigned operation) { twin::multiply(call, operation); }, "cublasLtMatmul");
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
