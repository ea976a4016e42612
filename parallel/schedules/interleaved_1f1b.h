#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// Interleaved 1F1B (Narayanan et al. 2021, section 2.2.2): chunk c on rank c mod p, v chunks per rank. Micro-batches
// go in groups through chunk after chunk of a rank: forward through its first chunk to its last, backward from its last
// to its first, and rank r runs (v - 1) g + 2 (p - 1 - r) forwards ahead (g: the largest group).
// Groups have p micro-batches where p divides m, as in the paper; else m / p groups, rounded down, are dealt as evenly
// as can be, larger ones first, so that none is shorter than the pipeline; fewer micro-batches than p are one group.
// With F + B + W alike everywhere and m >= p: bubble (p - 1) / (m v + p - 1), and rank r holds
// min(m v, (v - 1) g + 2 (p - 1 - r) + 1) activations of a chunk, each 1 / v of a rank's.
Schedule make_interleaved_1f1b(int num_ranks, int chunks_per_rank, int num_micro_batches);

}  // namespace deepflow
