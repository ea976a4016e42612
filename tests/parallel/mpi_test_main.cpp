#include "tests/parallel/mpi_test.h"

int main(int argc, char** argv) {
  deepflow::CommOptions options;
  options.timeout = 60;
  return deepflow::run_mpi_tests(argc, argv, options);
}
