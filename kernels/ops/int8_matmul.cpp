#include "kernels/ops/int8_matmul.h"

#include "core/error.h"
#include "kernels/cpu/int8_matmul.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kRowGrain = 6;             // rows of a register tile
constexpr int64_t kRowsWorthSplitting = 48;  // a thread: fewer, and threads share columns instead

int64_t num_panels(int64_t n) { return (n + cpu::kInt8Panel - 1) / cpu::kInt8Panel; }

// The left operand in int8.
struct Quantized {
  Tensor q, scales;
  int64_t k;
  const uint8_t* row(int64_t i) const { return q.data<uint8_t>() + i * cpu::int8_row_bytes(k); }
  const float* scales_of(int64_t i) const { return scales.data<float>() + i * cpu::num_int8_blocks(k); }
};

Quantized quantize(Runtime& runtime, const Tensor& a) {
  const int64_t rows = a.rows(), k = a.cols();
  Quantized result{Tensor::empty(runtime.memory(), {rows, cpu::int8_row_bytes(k)}, DType::kU8),
                   Tensor::empty(runtime.memory(), {rows, cpu::num_int8_blocks(k)}, DType::kF32), k};
  auto* kernel = DF_KERNEL(runtime.isa(), quantize_int8_rows);
  const BF16* x = a.data<BF16>();
  runtime.pool().parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    kernel(x + begin * a.ld(), end - begin, k, a.ld(), const_cast<uint8_t*>(result.row(begin)),
           const_cast<float*>(result.scales_of(begin)));
  });
  return result;
}

// c [m, n] = a b + bias, n columns of panels.
void multiply(Runtime& runtime, const Tensor& a, const Tensor& packed, int64_t n, const Tensor* bias, Tensor& c) {
  const int64_t m = a.rows(), k = a.cols();
  DF_ASSERT(a.dtype() == DType::kBF16 && c.dtype() == DType::kBF16, "{} to {}", name_of(a.dtype()), name_of(c.dtype()));
  DF_ASSERT(c.rows() == m && c.cols() == n, "{} for [{}, {}]", c.shape().to_string(), m, n);
  DF_ASSERT(static_cast<int64_t>(packed.num_bytes()) == num_panels(n) * cpu::int8_panel_bytes(k), "not this weight");
  DF_ASSERT(!bias || bias->num_elements() == n);
  if (m == 0) return;
  const Quantized left = quantize(runtime, a);
  auto* kernel = DF_KERNEL(runtime.isa(), multiply_int8);
  const bool vnni = runtime.cpu().avx512_vnni;
  const float* b = bias ? bias->data<float>() : nullptr;
  const uint8_t* panels = packed.data<uint8_t>();
  BF16* y = c.data<BF16>();
  const ThreadPool& pool = runtime.pool();
  if (m >= kRowsWorthSplitting * pool.size()) {
    pool.parallel_for(m, kRowGrain, [&](int64_t begin, int64_t end) {
      kernel(left.row(begin), left.scales_of(begin), end - begin, k, panels, n, b, y + begin * c.ld(), c.ld(), vnni);
    });
    return;
  }
  pool.parallel_for(n, cpu::kInt8Panel, [&](int64_t begin, int64_t end) {
    kernel(left.row(0), left.scales_of(0), m, k, panels + begin / cpu::kInt8Panel * cpu::int8_panel_bytes(k),
           end - begin, b ? b + begin : nullptr, y + begin, c.ld(), vnni);
  });
}

}  // namespace

size_t int8_weight_bytes(int64_t out, int64_t in, Form form) {
  DF_ASSERT(form == Form::kForwardInt8 || form == Form::kInputGradInt8);
  const bool forward = form == Form::kForwardInt8;
  const int64_t n = forward ? out : in, k = forward ? in : out;
  return static_cast<size_t>(num_panels(n) * cpu::int8_panel_bytes(k));
}

void pack_int8_weight(Runtime& runtime, const Tensor& master, Form form, Tensor& packed) {
  const int64_t out = master.rows(), in = master.cols();
  DF_ASSERT(packed.num_bytes() == int8_weight_bytes(out, in, form), "{}", packed.shape().to_string());
  DF_ASSERT(master.is_contiguous() && master.dtype() == DType::kF32);
  const bool forward = form == Form::kForwardInt8;
  const int64_t n = forward ? out : in, k = forward ? in : out;
  auto* kernel = forward ? DF_KERNEL(runtime.isa(), quantize_int8_panel_of_rows)
                         : DF_KERNEL(runtime.isa(), quantize_int8_panel_of_columns);
  const float* w = master.data<float>();
  uint8_t* bytes = packed.data<uint8_t>();
  runtime.pool().parallel_for(num_panels(n), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * cpu::kInt8Panel, columns = std::min(n - first, cpu::kInt8Panel);
      kernel(w + (forward ? first * in : first), columns, k, in, bytes + p * cpu::int8_panel_bytes(k));
    }
  });
}

void int8_matmul_forward(Runtime& runtime, const Tensor& x, const Tensor& packed, int64_t out, const Tensor* bias,
                         Tensor& y) {
  multiply(runtime, x, packed, out, bias, y);
}

void int8_matmul_input_grad(Runtime& runtime, const Tensor& dy, const Tensor& packed, int64_t in, Tensor& dx) {
  multiply(runtime, dy, packed, in, nullptr, dx);
}

}  // namespace deepflow
