#pragma once

#include "parallel/communicator.h"
#include "parallel/mpi_thread.h"

#include <memory>

namespace deepflow {

// A communicator over a queue of the MPI thread, which must outlive it. Host memory only.
std::unique_ptr<Communicator> make_mpi_communicator(MpiThread& thread, std::shared_ptr<MpiQueue> queue);

}  // namespace deepflow
