#include "kernels/ops/gemm_cache.h"

#include "core/error.h"
#include "core/tensor.h"

#include <cstring>

namespace deepflow {
namespace {

using dnnl::memory;

constexpr size_t kMaxPrimitives = 2048;  // generation and evaluation bring ever new numbers of rows
constexpr int64_t kTypicalRows = 512;    // for which the packed layout is asked

memory::data_type dnnl_type(DType dtype) {
  DF_ASSERT(dtype == DType::kF32 || dtype == DType::kBF16, "{}", name_of(dtype));
  return dtype == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

memory::desc matrix(int64_t rows, int64_t cols, DType dtype, int64_t ld, bool transposed) {
  const memory::dims strides = transposed ? memory::dims{1, ld} : memory::dims{ld, 1};
  return memory::desc({rows, cols}, dnnl_type(dtype), strides);
}

dnnl::primitive_attr attributes(bool accumulate) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attr.set_post_ops(sum);
  }
  return attr;
}

bool is_reference(const char* implementation) { return std::strncmp(implementation, "ref", 3) == 0; }

size_t mix(size_t seed, uint64_t value) { return (seed ^ value) * 0x9E3779B97F4A7C15ull ^ (seed >> 29); }

// Bytes between panels [padded k / depth][64][depth] of a B [k, n] where a pair of bf16 or one f32 makes a step; 0 for
// any other layout.
int64_t panel_stride(const dnnl_memory_desc_t& b, DType dtype) {
  const dnnl_blocking_desc_t& blocks = b.format_desc.blocking;
  const int64_t depth = dtype == DType::kBF16 ? 2 : 1;
  const int num_blocks = depth == 2 ? 3 : 2;
  if (b.format_kind != dnnl_blocked || b.extra.flags != 0 || b.offset0 != 0 || blocks.inner_nblks != num_blocks)
    return 0;
  constexpr int kInnermost[] = {0, 1, 0};  // which dim each block cuts: k, n, k
  for (int i = 0; i < num_blocks; ++i)
    if (blocks.inner_idxs[i] != kInnermost[i]) return 0;
  const int64_t block_rows = blocks.inner_blks[0] * depth;
  const bool panels = blocks.inner_blks[1] == 64 && (depth == 1 || blocks.inner_blks[2] == 2) &&
                      blocks.strides[0] == block_rows * 64 && blocks.strides[1] == b.padded_dims[0] * 64;
  return panels ? blocks.strides[1] * static_cast<int64_t>(size_of(dtype)) : 0;
}

void check(dnnl_status_t status, const char* what) {
  DF_ASSERT(status == dnnl_success, "oneDNN {}: status {}", what, static_cast<int>(status));
}

}  // namespace

size_t GemmCache::Hash::operator()(const GemmShape& s) const {
  size_t h = 0;
  for (const int64_t x : {s.m, s.n, s.k, s.lda, s.ldb, s.ldc}) h = mix(h, static_cast<uint64_t>(x));
  const unsigned flags = s.transpose_a | s.transpose_b << 1 | s.accumulate << 2 | s.bias << 3;
  return mix(h, flags | static_cast<unsigned>(s.dtype) << 8 | static_cast<unsigned>(s.c_dtype) << 16);
}

size_t GemmCache::Hash::operator()(const PackKey& key) const {
  size_t h = 0;
  for (const int64_t x : {key.k, key.n, key.ld}) h = mix(h, static_cast<uint64_t>(x));
  return mix(h, static_cast<unsigned>(key.dtype) | static_cast<unsigned>(key.source_dtype) << 8 | key.transposed << 16);
}

GemmCache& GemmCache::of(Runtime& runtime) {
  GemmCache& cache = runtime.slot<GemmCache>();
  const std::lock_guard lock(cache.mutex_);
  if (!cache.started_) cache.start(runtime);
  runtime.pool().adopt_caller();
  return cache;
}

void GemmCache::start(const Runtime& runtime) {
  if (runtime.isa() < best_isa(runtime.cpu()))
    // Refused once oneDNN has been used: then it stays as it was, which is no error.
    dnnl_set_max_cpu_isa(runtime.isa() == CpuIsa::kAvx2 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_avx512_core);
  engine_.emplace(dnnl::engine::kind::cpu, 0);
  stream_.emplace(*engine_);
  has_bf16_ = runtime.isa() == CpuIsa::kAvx512Bf16 &&
              (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
  started_ = true;
}

const memory::desc& GemmCache::packed_layout(DType dtype, int64_t k, int64_t n) {
  const PackKey key{dtype, dtype, k, n, 0, false};
  const auto known = layouts_.find(key);
  if (known != layouts_.end()) return known->second;
  const auto implementation = [&](int64_t rows, const memory::desc& b) {
    return dnnl::matmul::primitive_desc(
        dnnl::matmul::desc(matrix(rows, k, dtype, k, false), b, matrix(rows, n, dtype, n, false)), attributes(false),
        *engine_);
  };
  const auto wanted = implementation(kTypicalRows, memory::desc({k, n}, dnnl_type(dtype), memory::format_tag::any));
  memory::desc layout = wanted.weights_desc();
  // One layout serves every number of rows, down to the one of generation.
  if (is_reference(implementation(1, layout).impl_info_str())) layout = matrix(k, n, dtype, k, true);
  return layouts_.emplace(key, layout).first->second;
}

GemmCache::Gemm& GemmCache::find(const GemmShape& s) {
  const auto known = gemms_.find(s);
  if (known != gemms_.end()) return known->second;
  if (gemms_.size() >= kMaxPrimitives) gemms_.clear();
  const memory::desc a = matrix(s.m, s.k, s.dtype, s.lda, s.transpose_a);
  const memory::desc b =
      s.packed_b() ? packed_layout(s.dtype, s.k, s.n) : matrix(s.k, s.n, s.dtype, s.ldb, s.transpose_b);
  const memory::desc c = matrix(s.m, s.n, s.c_dtype, s.ldc, false);
  const memory::desc bias({1, s.n}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc pd(s.bias ? dnnl::matmul::desc(a, b, bias, c) : dnnl::matmul::desc(a, b, c),
                                        attributes(s.accumulate), *engine_);
  Gemm g;
  g.primitive = dnnl::matmul(pd);
  const auto add = [&](dnnl::memory& m, const memory::desc& desc, int argument) {
    m = dnnl::memory(desc, *engine_, nullptr);
    g.arguments[static_cast<size_t>(g.num_arguments++)] = {argument, m.get()};
  };
  add(g.a, a, DNNL_ARG_SRC);
  add(g.b, b, DNNL_ARG_WEIGHTS);
  add(g.c, c, DNNL_ARG_DST);
  if (s.bias) add(g.bias, bias, DNNL_ARG_BIAS);
  g.scratchpad_bytes = pd.scratchpad_desc().get_size();
  if (g.scratchpad_bytes > 0) add(g.scratchpad, pd.scratchpad_desc(), DNNL_ARG_SCRATCHPAD);
  return gemms_.emplace(s, std::move(g)).first->second;
}

void GemmCache::run(Runtime& runtime, const GemmShape& shape, const void* a, const void* b, const float* bias,
                    void* c) {
  const std::lock_guard lock(mutex_);
  Gemm& g = find(shape);
  Tensor scratchpad;
  if (g.scratchpad_bytes > 0) {
    scratchpad = Tensor::empty(runtime.memory(), {static_cast<int64_t>(g.scratchpad_bytes)}, DType::kU8);
    g.scratchpad.set_data_handle(scratchpad.raw());
  }
  g.a.set_data_handle(const_cast<void*>(a));
  g.b.set_data_handle(const_cast<void*>(b));
  g.c.set_data_handle(c);
  if (shape.bias) g.bias.set_data_handle(const_cast<float*>(bias));
  check(dnnl_primitive_execute(g.primitive.get(), stream_->get(), g.num_arguments, g.arguments.data()), "matmul");
}

size_t GemmCache::packed_bytes(DType dtype, int64_t k, int64_t n) {
  const std::lock_guard lock(mutex_);
  return packed_layout(dtype, k, n).get_size();
}

int64_t GemmCache::panel_bytes(DType dtype, int64_t k, int64_t n) {
  const std::lock_guard lock(mutex_);
  return panel_stride(packed_layout(dtype, k, n).data, dtype);
}

GemmCache::Packing& GemmCache::find(const PackKey& key) {
  const auto known = packings_.find(key);
  if (known != packings_.end()) return known->second;
  if (packings_.size() >= kMaxPrimitives) packings_.clear();
  const memory::desc from = matrix(key.k, key.n, key.source_dtype, key.ld, key.transposed);
  const memory::desc& to = packed_layout(key.dtype, key.k, key.n);
  const dnnl::reorder::primitive_desc pd(*engine_, from, *engine_, to, attributes(false));
  Packing p;
  p.primitive = dnnl::reorder(pd);
  p.from = dnnl::memory(from, *engine_, nullptr);
  p.to = dnnl::memory(to, *engine_, nullptr);
  p.scratchpad_bytes = pd.scratchpad_desc().get_size();
  p.scratchpad = dnnl::memory(pd.scratchpad_desc(), *engine_, nullptr);
  return packings_.emplace(key, std::move(p)).first->second;
}

void GemmCache::pack(Runtime& runtime, DType dtype, int64_t k, int64_t n, const void* source, DType source_dtype,
                     int64_t ld, bool transposed, void* packed) {
  const std::lock_guard lock(mutex_);
  Packing& p = find(PackKey{dtype, source_dtype, k, n, ld, transposed});
  const Tensor scratchpad = Tensor::empty(runtime.memory(), {static_cast<int64_t>(p.scratchpad_bytes)}, DType::kU8);
  p.from.set_data_handle(const_cast<void*>(source));
  p.to.set_data_handle(packed);
  p.scratchpad.set_data_handle(scratchpad.raw());
  const dnnl_exec_arg_t arguments[] = {
      {DNNL_ARG_FROM, p.from.get()}, {DNNL_ARG_TO, p.to.get()}, {DNNL_ARG_SCRATCHPAD, p.scratchpad.get()}};
  check(dnnl_primitive_execute(p.primitive.get(), stream_->get(), p.scratchpad_bytes > 0 ? 3 : 2, arguments),
        "reorder");
}

}  // namespace deepflow
