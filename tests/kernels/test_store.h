#pragma once

#include "core/context.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/pack_forms.h"
#include "tests/kernels/single_pack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace deepflow::testing {

// Parameters for the tests of ops: f32 masters, derived forms made on every acquire, gradients with the semantics of a
// step. A gradient is full of NaN until its first contribution, which therefore must overwrite every element.
class TestStore final : public ParameterStore {
 public:
  TestStore(Runtime& runtime, DType compute) : runtime_(runtime), compute_(compute) {}

  // tests/kernels/single_pack.h, with as many members of that shape; the padding is zero.
  Pack& add(const std::string& name, const Shape& shape, Role role, int members = 1) {
    Pack& pack = packs_.emplace_back();
    make_single_pack(parameters_.emplace_back(), pack, name, shape, role);
    for (int m = 1; m < members; ++m) add_member(parameters_.emplace_back(), pack);
    pack.id = static_cast<int>(packs_.size()) - 1;
    Entry& e = entries_[&pack];
    e.master = Tensor::empty(runtime_.memory(), {pack.physical_rows, pack.cols}, DType::kF32);
    e.gradient = Tensor::empty(runtime_.memory(), {pack.physical_rows, pack.cols}, DType::kF32);
    fill(runtime_, e.master, 0);
    begin_step();
    return pack;
  }
  // Normal(0, stddev) values, the same for the same name.
  Pack& add_normal(const std::string& name, const Shape& shape, Role role, float stddev, int members = 1) {
    Pack& pack = add(name, shape, role, members);
    for (int64_t r = 0; r < pack.rows; ++r)
      for (int64_t c = 0; c < pack.cols; ++c)
        master(pack).data<float>()[r * pack.cols + c] = stddev * random_normal(random_site(1, name), r, c);
    return pack;
  }

  Tensor& master(Pack& pack) { return entries_.at(&pack).master; }
  Tensor& gradient_value(Pack& pack) { return entries_.at(&pack).gradient; }
  int contributions(Pack& pack) const { return entries_.at(&pack).contributions; }
  int acquired(Pack& pack) const { return entries_.at(&pack).acquired; }  // and not yet released
  void begin_step() {
    for (auto& [pack, e] : entries_) {
      e.contributions = 0;
      fill(runtime_, e.gradient, std::nanf(""));
    }
  }

  Tensor acquire(Pack& pack, Form form, Stream&) override {
    Entry& e = entries_.at(&pack);
    ++e.acquired;
    if (form == Form::kMaster) return e.master;
    if (form == Form::kRowMajor) {
      Tensor cast = Tensor::empty(runtime_.memory(), {pack.physical_rows, pack.cols}, compute_);
      copy(runtime_, e.master, cast);
      return cast;
    }
    Tensor packed = empty_form(runtime_, pack, compute_, form);
    derive_form(runtime_, pack, e.master, compute_, form, packed);
    return packed;
  }
  void release(Pack& pack) override { --entries_.at(&pack).acquired; }
  GradientTarget gradient(Pack& pack) override {
    Entry& e = entries_.at(&pack);
    return {e.gradient, e.contributions > 0};
  }
  void contributed(Pack& pack) override { ++entries_.at(&pack).contributions; }

 private:
  struct Entry {
    Tensor master, gradient;
    int contributions = 0, acquired = 0;
  };
  Runtime& runtime_;
  DType compute_;
  std::deque<Parameter> parameters_;
  std::deque<Pack> packs_;
  std::map<const Pack*, Entry> entries_;
};

// What the test of an op needs around it.
struct OpBench {
  explicit OpBench(DType compute_dtype = DType::kF32, const RuntimeOptions& options = {})
      : runtime(options), stream(make_cpu_stream()), compute(compute_dtype), store(runtime, compute_dtype) {}

  Runtime runtime;
  std::unique_ptr<Stream> stream;
  DType compute;
  ProductPrecision products = ProductPrecision::kCompute;
  TestStore store;

  ForwardContext forward(Tape* tape) {
    ForwardContext context{runtime, *stream, store};
    context.tape = tape;
    context.compute = compute;
    context.products = products;
    context.training = true;
    return context;
  }
  BackwardContext backward() {
    return {runtime, *stream, store, [this](Tensor& into, const Tensor& x) { accumulate_gradient(runtime, into, x); }};
  }

  Tensor empty(const Shape& shape, DType dtype) { return Tensor::empty(runtime.memory(), shape, dtype); }
  Tensor normal(const std::string& name, const Shape& shape, DType dtype, float stddev = 1) {
    Tensor t = empty(shape, DType::kF32);
    for (int64_t i = 0; i < t.num_elements(); ++i)
      t.data<float>()[i] = stddev * random_normal(random_site(2, name), i / t.cols(), i % t.cols());
    return cast(t, dtype);
  }
  Tensor cast(const Tensor& t, DType dtype) {
    Tensor result = empty(t.shape(), dtype);
    copy(runtime, t, result);
    return result;
  }
};

// Elements in row-major order, whatever the dtype (f32, bf16, f16, i32) and the row stride.
inline std::vector<double> values_of(const Tensor& t) {
  std::vector<double> v;
  for (int64_t r = 0; r < t.rows(); ++r)
    for (int64_t c = 0; c < t.cols(); ++c) {
      const int64_t i = r * t.ld() + c;
      if (t.dtype() == DType::kBF16)
        v.push_back(to_float(t.data<BF16>()[i]));
      else if (t.dtype() == DType::kF16)
        v.push_back(to_float(t.data<F16>()[i]));
      else if (t.dtype() == DType::kI32)
        v.push_back(t.data<int32_t>()[i]);
      else
        v.push_back(static_cast<double>(t.data<float>()[i]));
    }
  return v;
}

// |a - b| / |b| as Euclidean norms.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-300));
}

// Compares `gradient` with central differences of `loss`, which reads `x` (f32), in at most `samples` elements spread
// over x. The error is measured against the largest gradient among them.
inline void expect_gradient(Tensor& x, const Tensor& gradient, const std::function<double()>& loss, double step,
                            double tolerance, int64_t samples = 40) {
  const int64_t n = x.num_elements(), stride = std::max<int64_t>(1, n / samples) | 1;
  float* p = x.data<float>();
  const std::vector<double> analytic = values_of(gradient);
  ASSERT_EQ(analytic.size(), static_cast<size_t>(n));
  std::vector<double> numeric, expected;
  double largest = 1e-6;
  for (int64_t i = 0; i < n; i += stride) {
    const float kept = p[i];
    p[i] = kept + static_cast<float>(step);
    const double up = loss(), high = p[i];
    p[i] = kept - static_cast<float>(step);
    const double down = loss(), low = p[i];
    p[i] = kept;
    numeric.push_back((up - down) / (high - low));
    expected.push_back(analytic[static_cast<size_t>(i)]);
    largest = std::max(largest, std::abs(numeric.back()));
  }
  for (size_t k = 0; k < numeric.size(); ++k)
    EXPECT_NEAR(expected[k], numeric[k], tolerance * largest) << "element " << static_cast<int64_t>(k) * stride;
}

// The instruction sets that this machine can run.
inline std::vector<CpuIsa> runnable_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16})
    if (isa <= best_isa(detect_cpu())) isas.push_back(isa);
  return isas;
}

inline constexpr DType kComputeDtypes[] = {DType::kF32, DType::kBF16, DType::kF16};

// Relative error of a result that is rounded to `dtype` once: `exact` in f32, and what an op allows in bf16, of which
// f16 with three bits more gets an eighth.
inline double rounding_tolerance(DType dtype, double exact, double bf16 = 4e-3) {
  return dtype == DType::kF32 ? exact : dtype == DType::kBF16 ? bf16 : bf16 / 8;
}

// What an op of every compute dtype is tested with.
struct IsaAndDtype {
  CpuIsa isa;
  DType dtype;
};
inline std::vector<IsaAndDtype> every_isa_and_dtype() {
  std::vector<IsaAndDtype> cases;
  for (const CpuIsa isa : runnable_isas())
    for (const DType dtype : kComputeDtypes) cases.push_back({isa, dtype});
  return cases;
}
inline void PrintTo(const IsaAndDtype& c, std::ostream* os) { *os << name_of(c.isa) << " " << name_of(c.dtype); }

}  // namespace deepflow::testing
