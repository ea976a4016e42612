#include "engine/host_report.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

namespace deepflow {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "always [madvise] never" -> "madvise"
std::string chosen(const std::string& choices) {
  const size_t open = choices.find('['), close = choices.find(']');
  return open < close && close != std::string::npos ? choices.substr(open + 1, close - open - 1) : choices;
}

int64_t meminfo(const std::string& root, const std::string& key) {
  std::ifstream file(root + "/proc/meminfo");
  int64_t kilobytes = 0;
  for (std::string word; file >> word;)
    if (word == key + ":" && file >> kilobytes) return kilobytes * 1024;
  return 0;
}

int count_numa_nodes(const std::string& root) {
  int count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root + "/sys/devices/system/node", error)) {
    const std::string name = entry.path().filename();
    if (name.size() > 4 && name.starts_with("node") && std::isdigit(static_cast<unsigned char>(name[4]))) ++count;
  }
  return std::max(1, count);
}

// The folders of control groups (version 2) that this process is in, from the outermost inwards.
std::vector<std::string> control_groups(const std::string& root) {
  const std::string top = root + "/sys/fs/cgroup";
  std::vector<std::string> folders{top};
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("0::/"))
      for (size_t slash = 3; slash != std::string::npos && slash + 1 < line.size(); slash = line.find('/', slash + 1))
        folders.push_back(top + line.substr(3, line.find('/', slash + 1) - 3));
  return folders;
}

void read_control_groups(const std::string& root, HostReport& report) {
  for (const std::string& folder : control_groups(root)) {
    std::ifstream cpu(folder + "/cpu.max"), memory(folder + "/memory.max");
    double quota = 0, period = 0;
    if (cpu >> quota >> period && period > 0)
      report.cpu_quota = report.cpu_quota > 0 ? std::min(report.cpu_quota, quota / period) : quota / period;
    int64_t limit = 0;
    if (memory >> limit)
      report.memory_limit =
          report.memory_limit == HostReport::kUnlimited ? limit : std::min(report.memory_limit, limit);
  }
}

int64_t soft_limit(__rlimit_resource resource) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return HostReport::kUnlimited;
  return static_cast<int64_t>(limit.rlim_cur);
}

}  // namespace

HostReport read_host(const std::string& root) {
  HostReport r;
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  r.host = name;
  r.cpu = detect_cpu();
  r.cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cpu_set_t mask;
  r.usable_cpus = sched_getaffinity(0, sizeof(mask), &mask) == 0 ? CPU_COUNT(&mask) : r.cpus;
  r.smt = first_line(root + "/sys/devices/system/cpu/smt/active") == "1";
  r.numa_nodes = count_numa_nodes(root);
  const std::string frequency = root + "/sys/devices/system/cpu/cpu0/cpufreq/";
  r.governor = first_line(frequency + "scaling_governor");
  r.frequency_driver = first_line(frequency + "scaling_driver");
  r.memory_bytes = meminfo(root, "MemTotal");
  r.available_bytes = meminfo(root, "MemAvailable");
  r.huge_pages = chosen(first_line(root + "/sys/kernel/mm/transparent_hugepage/enabled"));
  read_control_groups(root, r);
  r.locked_memory = soft_limit(RLIMIT_MEMLOCK);
  r.open_files = soft_limit(RLIMIT_NOFILE);
  r.address_space = soft_limit(RLIMIT_AS);
  return r;
}

std::vector<std::string> feature_names(const CpuFeatures& cpu) {
  std::vector<std::string> names;
  for (const auto& [has, name] : {std::pair{cpu.avx2, "avx2"}, std::pair{cpu.fma, "fma"}, std::pair{cpu.f16c, "f16c"},
                                  std::pair{cpu.avx512, "avx512"}, std::pair{cpu.avx512_bf16, "avx512_bf16"},
                                  std::pair{cpu.amx_bf16, "amx_bf16"}})
    if (has) names.emplace_back(name);
  return names;
}

std::vector<std::string> find_hindrances(const HostReport& host, const HostUse& use) {
  std::vector<std::string> found;
  if (!host.cpu.avx2 || !host.cpu.fma || !host.cpu.f16c)
    found.emplace_back("the CPU has no AVX2, FMA and F16C: DeepFlow does not run here");
  const int wanted = use.ranks_on_host * use.threads;
  if (wanted > host.cpus)
    found.push_back(fmt::format("{} rank{} x {} threads on {} CPUs: start fewer ranks or set train.threads",
                                use.ranks_on_host, use.ranks_on_host == 1 ? "" : "s", use.threads, host.cpus));
  if (use.threads > host.usable_cpus)
    found.push_back(fmt::format(
        "{} threads a rank, but the launcher bound it to {} CPU{}: mpirun --bind-to none, or --map-by slot:PE={}",
        use.threads, host.usable_cpus, host.usable_cpus == 1 ? "" : "s", use.threads));
  if (host.cpu_quota > 0 && wanted > std::ceil(host.cpu_quota))
    found.push_back(fmt::format("{} threads in a control group that grants {:.1f} CPUs: raise its quota (cpu.max)",
                                wanted, host.cpu_quota));
  if (host.huge_pages == "never")
    found.emplace_back(
        "transparent huge pages are off: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root)");
  // With these two drivers "powersave" follows the load.
  if (host.governor == "powersave" && host.frequency_driver != "intel_pstate" &&
      host.frequency_driver != "amd-pstate-epp")
    found.emplace_back("the CPUs save power: cpupower frequency-set -g performance (as root)");
  if (host.available_bytes > 0 && host.available_bytes < int64_t{1} << 30)
    found.push_back(fmt::format("only {} MB of memory are available", host.available_bytes >> 20));
  if (host.memory_limit != HostReport::kUnlimited && host.memory_limit < host.memory_bytes / 2)
    found.push_back(fmt::format("the control group grants {} MB of {} MB memory (memory.max)", host.memory_limit >> 20,
                                host.memory_bytes >> 20));
  if (host.address_space != HostReport::kUnlimited)
    found.push_back(fmt::format("address space is limited to {} MB: ulimit -v unlimited", host.address_space >> 20));
  if (host.open_files != HostReport::kUnlimited && host.open_files < 1024)
    found.push_back(fmt::format("only {} files may be open: ulimit -n 4096", host.open_files));
  if (use.hosts > 1 && host.locked_memory != HostReport::kUnlimited)
    found.push_back(fmt::format("locked memory is limited to {} kB, which InfiniBand may need: ulimit -l unlimited",
                                host.locked_memory >> 10));
  return found;
}

}  // namespace deepflow
