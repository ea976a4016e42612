#pragma once

#include "parallel/bootstrap.h"

#include <cstdint>

namespace deepflow {

// The job that this test program runs in, under tests/mpirun or alone.
World& test_world();
// `n`, but no more than what this program has time for when everything is cut very small.
int64_t test_size(int64_t n);

// main() of a gtest program that every rank runs; rank 0 reports, the others only their failures.
int run_mpi_tests(int argc, char** argv, const CommOptions& options, int64_t most = INT64_MAX);

}  // namespace deepflow
