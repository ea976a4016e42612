#pragma once

#include "parallel/communicator.h"

namespace deepflow {

// One process on its own: no MPI, no thread; every operation is done when the call returns.
std::unique_ptr<Communicator> make_self_communicator(std::string name);

}  // namespace deepflow
