#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// What several schedules share. Rank r of p; chunks count from the embedding to the head.

// Empty lists; chunk c on rank c mod p, chunks_per_rank times around.
Schedule looped_placement(int num_ranks, int chunks_per_rank, int num_micro_batches);
// Empty lists; chunk r on rank r and chunk 2 p - 1 - r too, down and up again: embedding and head meet on rank 0.
Schedule v_placement(int num_ranks, int num_micro_batches);

// A single rank has nobody to wait for: each micro-batch forward through all chunks and back at once.
Schedule single_rank_schedule(int num_chunks, int num_micro_batches);

// The same schedule for fewer micro-batches. Micro-batches do not depend on each other, so what is left is in a legal
// order and free of deadlock where the whole was; half a kOverlapFB becomes kF or kBW.
Schedule with_first_micro_batches(const Schedule& schedule, int num_micro_batches);

}  // namespace deepflow
