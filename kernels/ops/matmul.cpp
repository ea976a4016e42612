#include "kernels/ops/matmul.h"

#include "core/error.h"
#include "kernels/cpu/matmul.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/few_rows.h"
#include "kernels/ops/gemm_cache.h"
#include "kernels/ops/int8_matmul.h"
#include "kernels/ops/weight_panels.h"

namespace deepflow {
namespace {

constexpr int64_t kColumnGrain = 128;  // columns a thread sums at least
// From here on a weight gradient in bf16 gains more (12-19 %) from a packed x than the packing costs (2 %).
constexpr int64_t kRowsWorthPacking = 64;

// Extents of a matrix; a single row may claim any stride.
int64_t stride_of(const Tensor& t) { return t.rows() <= 1 ? t.cols() : t.ld(); }

Tensor to_f32(Runtime& runtime, const Tensor& t) {
  Tensor copied = Tensor::empty(runtime.memory(), {t.rows(), t.cols()}, DType::kF32);
  copy(runtime, t, copied);
  return copied;
}

void clear(Runtime& runtime, Tensor& t, bool accumulate) {
  if (!accumulate) fill(runtime, t, 0);
}

// The operand B of a product: a matrix, or a packed weight.
struct SecondOperand {
  const Tensor& tensor;
  bool packed;
};

// C (+)= op(A) op(B), where this runtime has the products of that dtype.
void multiply(Runtime& runtime, GemmCache& cache, GemmShape shape, const Tensor& a, const SecondOperand& b,
              const Tensor* bias, Tensor& c) {
  if (b.packed && !shape.transpose_a && !shape.accumulate &&
      few_rows_product(runtime, cache, a, b.tensor, shape.n, bias, c))
    return;
  shape.lda = stride_of(a);
  shape.ldb = b.packed ? 0 : stride_of(b.tensor);
  shape.ldc = stride_of(c);
  shape.dtype = a.dtype();
  shape.c_dtype = c.dtype();
  shape.bias = bias != nullptr;
  cache.run(runtime, shape, a.raw(), b.tensor.raw(), bias ? bias->data<float>() : nullptr, c.raw());
}

// Whether this runtime has products of that dtype. bf16 needs a CPU for it; f16 no CPU's oneDNN multiplies.
bool has_products(const GemmCache& cache, DType dtype) {
  return dtype == DType::kF32 || (dtype == DType::kBF16 && cache.has_bf16());
}

// The same for any dtype: without products of its own it goes by way of f32 copies, and the bytes of a packed weight
// are f32 then, of values rounded to that dtype.
void multiply_any(Runtime& runtime, const GemmShape& shape, const Tensor& a, const SecondOperand& b, const Tensor* bias,
                  Tensor& c) {
  DF_ASSERT(c.rows() == shape.m && c.cols() == shape.n, "{} for [{}, {}]", c.shape().to_string(), shape.m, shape.n);
  DF_ASSERT(!shape.accumulate || c.dtype() == DType::kF32);
  DF_ASSERT(!bias || bias->num_elements() == shape.n);
  if (shape.m == 0 || shape.n == 0) return;
  if (shape.k == 0) {
    DF_ASSERT(!bias);
    clear(runtime, c, shape.accumulate);
    return;
  }
  GemmCache& cache = GemmCache::of(runtime);
  if (has_products(cache, a.dtype())) {
    multiply(runtime, cache, shape, a, b, bias, c);
    return;
  }
  const Tensor a32 = to_f32(runtime, a), b32 = b.packed ? b.tensor : to_f32(runtime, b.tensor);
  if (c.dtype() == DType::kF32) {
    multiply(runtime, cache, shape, a32, {b32, b.packed}, bias, c);
    return;
  }
  Tensor c32 = Tensor::empty(runtime.memory(), {shape.m, shape.n}, DType::kF32);
  multiply(runtime, cache, shape, a32, {b32, b.packed}, bias, c32);
  copy(runtime, c32, c);
}

// Extents of B [k, n] in the product that `form` serves.
struct Operand {
  int64_t k, n;
  bool transposed;  // stored [n, k] in the master
};
Operand operand_of(int64_t out, int64_t in, Form form) {
  DF_ASSERT(form == Form::kForward || form == Form::kInputGrad);
  return form == Form::kForward ? Operand{in, out, true} : Operand{out, in, false};
}

bool is_int8(Form form) { return form == Form::kForwardInt8 || form == Form::kInputGradInt8; }

// What the packed bytes hold.
DType packed_dtype(const GemmCache& cache, DType dtype) { return has_products(cache, dtype) ? dtype : DType::kF32; }

}  // namespace

void matmul(Runtime& runtime, const Tensor& a, const Tensor& b, Tensor& c, const MatmulOptions& options) {
  DF_ASSERT(a.dtype() == b.dtype(), "{} times {}", name_of(a.dtype()), name_of(b.dtype()));
  GemmShape shape;
  shape.m = options.transpose_a ? a.cols() : a.rows();
  shape.k = options.transpose_a ? a.rows() : a.cols();
  shape.n = options.transpose_b ? b.rows() : b.cols();
  shape.transpose_a = options.transpose_a;
  shape.transpose_b = options.transpose_b;
  shape.accumulate = options.accumulate;
  DF_ASSERT((options.transpose_b ? b.cols() : b.rows()) == shape.k, "{} and {} do not match", a.shape().to_string(),
            b.shape().to_string());
  multiply_any(runtime, shape, a, {b, false}, nullptr, c);
}

size_t packed_weight_bytes(Runtime& runtime, DType dtype, int64_t out, int64_t in, Form form) {
  if (is_int8(form)) return int8_weight_bytes(out, in, form);
  GemmCache& cache = GemmCache::of(runtime);
  const Operand b = operand_of(out, in, form);
  return cache.packed_bytes(packed_dtype(cache, dtype), b.k, b.n);
}

void pack_weight(Runtime& runtime, const Tensor& master, DType dtype, Form form, Tensor& packed) {
  if (is_int8(form)) {
    pack_int8_weight(runtime, master, form, packed);
    return;
  }
  const int64_t out = master.rows(), in = master.cols();
  DF_ASSERT(packed.num_bytes() == packed_weight_bytes(runtime, dtype, out, in, form), "{}", packed.shape().to_string());
  DF_ASSERT(master.is_contiguous() && master.dtype() == DType::kF32);
  if (lies_in_panels(runtime, dtype, out, in, form)) {
    WeightPanels panels{out, in};
    (form == Form::kForward ? panels.forward : panels.input_grad) = static_cast<BF16*>(packed.raw());
    write_panels(runtime, master, panels);
    return;
  }
  GemmCache& cache = GemmCache::of(runtime);
  const Operand b = operand_of(out, in, form);
  Tensor source = master;
  if (!has_products(cache, dtype)) {
    Tensor rounded = Tensor::empty(runtime.memory(), {out, in}, dtype);
    copy(runtime, master, rounded);
    source = to_f32(runtime, rounded);
  }
  cache.pack(runtime, packed_dtype(cache, dtype), b.k, b.n, source.raw(), DType::kF32, in, b.transposed, packed.raw());
}

void matmul_forward(Runtime& runtime, const Tensor& x, const Tensor& packed, int64_t out, const Tensor* bias,
                    Tensor& y) {
  GemmShape shape;
  shape.m = x.rows();
  shape.n = out;
  shape.k = x.cols();
  multiply_any(runtime, shape, x, {packed, true}, bias, y);
}

void matmul_input_grad(Runtime& runtime, const Tensor& dy, const Tensor& packed, int64_t in, Tensor& dx) {
  GemmShape shape;
  shape.m = dy.rows();
  shape.n = in;
  shape.k = dy.cols();
  multiply_any(runtime, shape, dy, {packed, true}, nullptr, dx);
}

void matmul_weight_grad(Runtime& runtime, const Tensor& dy, const Tensor& x, GradientTarget& dw) {
  const int64_t rows = x.rows(), in = x.cols();
  DF_ASSERT(dy.rows() == rows, "{} and {}", dy.shape().to_string(), x.shape().to_string());
  GemmCache& cache = GemmCache::of(runtime);
  if (x.dtype() != DType::kBF16 || !cache.has_bf16() || rows < kRowsWorthPacking) {
    matmul(runtime, dy, x, dw.value, {.transpose_a = true, .accumulate = dw.accumulate});
    return;
  }
  const auto bytes = static_cast<int64_t>(cache.packed_bytes(x.dtype(), rows, in));
  const Tensor packed = Tensor::empty(runtime.memory(), {bytes}, DType::kU8);
  if (operand_lies_in_panels(runtime, rows, in))
    write_operand_panels(runtime, x, static_cast<BF16*>(packed.raw()));
  else
    cache.pack(runtime, x.dtype(), rows, in, x.raw(), x.dtype(), x.ld(), false, packed.raw());
  GemmShape shape;
  shape.m = dy.cols();
  shape.n = in;
  shape.k = rows;
  shape.transpose_a = true;
  shape.accumulate = dw.accumulate;
  multiply_any(runtime, shape, dy, {packed, true}, nullptr, dw.value);
}

void column_sums(Runtime& runtime, const Tensor& dy, GradientTarget& db) {
  const int64_t cols = dy.cols();
  DF_ASSERT(db.value.is_contiguous() && db.value.num_elements() == cols, "{} sums of {}", db.value.shape().to_string(),
            dy.shape().to_string());
  float* sums = db.value.data<float>();
  const char* p = static_cast<const char*>(dy.raw());
  auto* sum = DF_KERNEL(runtime.isa(), column_sums);
  runtime.pool().parallel_for(cols, kColumnGrain, [&](int64_t begin, int64_t end) {
    sum(p + static_cast<size_t>(begin) * size_of(dy.dtype()), dy.dtype(), dy.rows(), dy.ld(), end - begin, sums + begin,
        db.accumulate);
  });
}

}  // namespace deepflow
