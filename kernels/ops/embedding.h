#pragma once

#include "core/context.h"

namespace deepflow {

// x[i] = table[tokens[i]] (+ positions[context.rows.positions[i]]). tokens i32 [M]; tables are packs [V, D], [P, D],
// read from their f32 masters; x f32 [M, D]. Throws DataError for a token id outside the table. Backward scatters the
// gradient (f32) into the tables in a fixed order: the same bits for the same thread count.
Var embedding(ForwardContext& context, const Tensor& tokens, Pack& table, Pack* positions);

}  // namespace deepflow
