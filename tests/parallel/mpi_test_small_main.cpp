#include "tests/parallel/mpi_test.h"

// Tiny pieces and messages, so that everything is cut many times, and every call compared over the ranks.
int main(int argc, char** argv) {
  deepflow::CommOptions options;
  options.timeout = 60;
  options.check_collectives = true;
  options.limits = {.piece_bytes = 512, .staging_bytes = 1024, .one_shot_bytes = 256, .message_bytes = 200};
  return deepflow::run_mpi_tests(argc, argv, options, 9999);
}
