#include "kernels/cuda/rms_norm.h"

#include "tests/kernels/cuda/gpu_test.h"

#include <cmath>

namespace deepflow {
namespace {

constexpr float kEps = 1e-5f;

struct Case {
  int64_t rows, cols;
};
constexpr Case kCases[] = {{1, 1},    {3, 7},    {5, 64},   {8, 257},
                           {2, 1030}, {300, 36}, {2, 13001}};  // the last takes more than 48 KiB

double inverse_root(const double* r, int64_t cols) {
  double squares = 0;
  for (int64_t j = 0; j < cols; ++j) squares += r[j] * r[j];
  return 1 / std::sqrt(squares / static_cast<double>(cols) + kEps);
}

template <class T>
void check_forward(Case c, bool has_delta) {
  const int64_t n = c.rows * c.cols;
  const auto x = normal(n, 1), gain = normal(c.cols, 2);
  const auto delta = normal_as<T>(n, 3);
  std::vector<double> r, y, statistics;
  for (int64_t i = 0; i < n; ++i) r.push_back(double{x[i]} + (has_delta ? to_float(delta[i]) : 0.0f));
  for (int64_t row = 0; row < c.rows; ++row) {
    statistics.push_back(inverse_root(&r[row * c.cols], c.cols));
    for (int64_t j = 0; j < c.cols; ++j) y.push_back(r[row * c.cols + j] * statistics[row] * gain[j]);
  }
  repeat([&](Gpu& gpu) {
    float* r_out = has_delta ? gpu.empty<float>(n) : nullptr;
    T* y_out = gpu.empty<T>(n);
    float* statistics_out = gpu.empty<float>(c.rows);
    const cpu::NormForward<T> a{
        gpu.upload(x), has_delta ? gpu.upload(delta) : nullptr, gpu.upload(gain), nullptr, kEps, c.cols, r_out, y_out,
        statistics_out};
    cuda::rms_norm_forward(a, c.rows, gpu.stream());
    Bits bits;
    const auto y_got = gpu.download(y_out, n);
    expect_close(y_got, y, kRounding<T>, "y");
    bits.add(y_got);
    expect_close(gpu.download(statistics_out, c.rows), statistics, 1e-6, "statistics");
    if (has_delta) expect_close(gpu.download(r_out, n), r, 1e-6, "r");
    return bits;
  });
}

struct Expected {
  std::vector<double> dx, dgain;
};

// From the definition: y = n * gain, n = r * s, s = (mean r^2 + eps)^-1/2.
template <class T>
Expected expected_backward(Case c, const std::vector<float>& r, const std::vector<T>& dy, const std::vector<float>& dr,
                           const std::vector<float>& gain, const std::vector<float>& dgain_before) {
  Expected e{{}, {dgain_before.begin(), dgain_before.end()}};
  for (int64_t row = 0; row < c.rows; ++row) {
    const std::vector<double> values(r.begin() + row * c.cols, r.begin() + (row + 1) * c.cols);
    const double s = inverse_root(values.data(), c.cols);
    double product = 0;
    for (int64_t j = 0; j < c.cols; ++j) product += to_float(dy[row * c.cols + j]) * double{gain[j]} * values[j];
    for (int64_t j = 0; j < c.cols; ++j) {
      const double g = to_float(dy[row * c.cols + j]);
      e.dgain[j] += g * values[j] * s;
      const double before = dr.empty() ? 0.0 : dr[row * c.cols + j];
      e.dx.push_back(before + s * (g * gain[j] - values[j] * s * s * product / static_cast<double>(c.cols)));
    }
  }
  return e;
}

template <class T>
void check_backward(Case c, bool in_place) {
  const int64_t n = c.rows * c.cols;
  const auto r = normal(n, 1), gain = normal(c.cols, 2);
  const auto dy = normal_as<T>(n, 3);
  const auto dr = in_place ? normal(n, 4) : std::vector<float>();
  const auto before = in_place ? normal(c.cols, 5) : std::vector<float>(static_cast<size_t>(c.cols));
  const Expected want = expected_backward(c, r, dy, dr, gain, before);
  std::vector<float> statistics;
  for (int64_t row = 0; row < c.rows; ++row) {
    const std::vector<double> values(r.begin() + row * c.cols, r.begin() + (row + 1) * c.cols);
    statistics.push_back(static_cast<float>(inverse_root(values.data(), c.cols)));
  }
  repeat([&](Gpu& gpu) {
    T* dy_in = gpu.upload(dy);
    float* dr_in = in_place ? gpu.upload(dr) : nullptr;
    float* dx = in_place ? dr_in : gpu.empty<float>(n);
    T* ddelta = in_place ? dy_in : nullptr;
    float* partial = gpu.empty<float>(cuda::rms_norm_parts(c.rows) * c.cols);
    float* dgain = in_place ? gpu.upload(before) : gpu.empty<float>(c.cols);
    const cpu::NormBackward<T> a{gpu.upload(r), dy_in, dr_in,  gpu.upload(gain), gpu.upload(statistics),
                                 c.cols,        dx,    ddelta, partial};
    cuda::rms_norm_backward(a, c.rows, dgain, in_place, gpu.stream());
    Bits bits;
    const auto dx_got = gpu.download(dx, n), dgain_got = gpu.download(dgain, c.cols);
    expect_close(dx_got, want.dx, 3e-6, "dx");
    expect_close(dgain_got, want.dgain, 1e-5, "dgain");
    bits.add(dx_got);
    bits.add(dgain_got);
    if (in_place) expect_close(gpu.download(ddelta, n), want.dx, kRounding<T> + 3e-6, "ddelta");
    return bits;
  });
}

TEST(CudaRmsNorm, ForwardEqualsTheDefinition) {
  for (const Case c : kCases) {
    for (const bool has_delta : {false, true}) {
      SCOPED_TRACE(testing::Message() << c.rows << " x " << c.cols << (has_delta ? " with delta" : ""));
      check_forward<float>(c, has_delta);
      check_forward<BF16>(c, has_delta);
    }
  }
}

TEST(CudaRmsNorm, BackwardEqualsTheDefinition) {
  for (const Case c : kCases) {
    for (const bool in_place : {false, true}) {
      SCOPED_TRACE(testing::Message() << c.rows << " x " << c.cols << (in_place ? " in place" : ""));
      check_backward<float>(c, in_place);
      check_backward<BF16>(c, in_place);
    }
  }
}

}  // namespace
}  // namespace deepflow
