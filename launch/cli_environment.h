#pragma once

#include <string>

namespace deepflow {

// What the launcher (mpirun, srun) says about this process before MPI has started; rank 0 of 1 without a launcher.
struct LaunchEnvironment {
  int rank = 0;
  int world_size = 1;
};
LaunchEnvironment launch_environment();

// "deepflow: message" on stderr, in front of it the rank when there are several. Returns `exit_code`.
int report_error(const std::string& message, int exit_code);

// From now on an exception that nobody catches, as `--debug` arranges it, is reported with the stack it was thrown
// from.
void report_uncaught_with_stack();

}  // namespace deepflow
