#pragma once

#include "parallel/bootstrap.h"

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace deepflow {

struct DoctorOptions {
  int threads = 0;      // of a rank; 0: its fair share of the host
  bool measure = true;  // GEMM, memory and collectives, a few seconds
};

// What a job started like this one has to work with: version and libraries, CPU, memory, GPUs, ranks and hosts, how
// fast products, memory and all_reduce are, and what will make it slow. Figures are those of all ranks together while
// all of them work. Collective over the world; complete on rank 0.
nlohmann::json examine(World& world, const DoctorOptions& options);

// The same for people, some forty lines.
std::string doctor_text(const nlohmann::json& report);

}  // namespace deepflow
