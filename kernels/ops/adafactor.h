#pragma once

#include "core/runtime.h"

#include <cstdint>

namespace deepflow {

// Pieces of Shazeer & Stern 2018 (Adafactor), algorithm 4. A part of a matrix: f32 [rows, cols], contiguous.
struct GradientPart {
  float* g;
  int64_t rows, cols;
};
// Sums of the squares of scale * g: by row, by column, both overwritten. The same for any number of threads.
void sum_squares_by_row_and_column(Runtime& runtime, const GradientPart& part, float scale, float* by_row,
                                   float* by_col);
// g[i, j] becomes row[i] g[i, j] col[j], the direction of the step; returns the sum of its squares.
double factored_direction(Runtime& runtime, const GradientPart& part, const float* row, const float* col);
// For vectors, whose second moments are not factored: v follows (scale g)^2 + eps, and g becomes scale g / sqrt(v).
double vector_direction(Runtime& runtime, float beta2, float scale, float eps, float* v, float* g, int64_t n);

}  // namespace deepflow
