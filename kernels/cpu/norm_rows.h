#pragma once

#include <cstdint>

namespace deepflow::cpu {

// Rows of a norm over matrices [rows, cols], all contiguous. T: the compute dtype.
template <class T>
struct NormForward {
  const float* x;
  const T* delta;  // null: r is x and is not written
  const float *gain, *bias;
  float eps;
  int64_t cols;
  float* r;
  T* y;
  float* statistics;      // layer norm [rows, 2]: mean, 1 / deviation; RMS norm [rows]: 1 / root mean square
  float gain_offset = 0;  // RMS norm: added to the gain
};

// dx = dr + gradient of the norm. dx may be dr; ddelta may be dy.
template <class T>
struct NormBackward {
  const float* r;
  const T* dy;
  const float* dr;  // null: zero
  const float *gain, *statistics;
  int64_t cols;
  float* dx;
  T* ddelta;       // dx in the compute dtype; null: not wanted
  float* partial;  // the caller's rows' share of dgain [cols], and for layer norm of dbias [cols]; set, not added to
  float gain_offset = 0;
};

}  // namespace deepflow::cpu
