#pragma once

#include "core/cpu_features.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// What the operating system says about this machine and what it grants this process.
struct HostReport {
  static constexpr int64_t kUnlimited = -1;

  std::string host;
  CpuFeatures cpu;
  int cpus = 0;          // online
  int usable_cpus = 0;   // in this process's affinity mask
  double cpu_quota = 0;  // of the control group, in CPUs; 0: none
  bool smt = false;      // several hardware threads a core
  int numa_nodes = 1;
  std::string governor, frequency_driver;  // empty: the machine does not tell

  int64_t memory_bytes = 0, available_bytes = 0;
  int64_t memory_limit = kUnlimited;  // of the control group
  std::string huge_pages;             // transparent ones: "always", "madvise", "never"

  int64_t locked_memory = kUnlimited, open_files = kUnlimited, address_space = kUnlimited;  // soft limits
};

// `root`: the folder in which /proc and /sys lie, for tests. What cannot be read keeps its default. Never throws.
HostReport read_host(const std::string& root = "");

// "avx2", "avx512", ...: those that the kernels and oneDNN care for.
std::vector<std::string> feature_names(const CpuFeatures& cpu);

// How a job uses the host.
struct HostUse {
  int ranks_on_host = 1;
  int threads = 1;  // of a rank
  int hosts = 1;    // of the job
};

// What will make a job slow or stop it, one line each with the remedy.
std::vector<std::string> find_hindrances(const HostReport& host, const HostUse& use);

}  // namespace deepflow
