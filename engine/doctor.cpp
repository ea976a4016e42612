#include "engine/doctor.h"

#include "core/cuda_device.h"
#include "core/error.h"
#include "engine/gemm_peak.h"
#include "engine/host_report.h"
#include "engine/library_versions.h"
#include "engine/machine_speed.h"
#include "engine/thread_share.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <set>

namespace deepflow {
namespace {

using nlohmann::json;

constexpr double kSeconds = 0.3;  // of each measurement
constexpr int kTurns = 5;
constexpr int64_t kAllReduceBytes[] = {64 << 10, 4 << 20, 64 << 20};

double sum_over(Communicator& all, double mine) {
  return sum_doubles(all, std::span(&mine, 1), "doctor's sum").front();
}

json describe_cpu(const HostReport& host) {
  json cpu{{"model", host.cpu.model},  {"features", feature_names(host.cpu)},
           {"cpus", host.cpus},        {"usable_cpus", host.usable_cpus},
           {"hyperthreads", host.smt}, {"numa_nodes", host.numa_nodes}};
  try {
    cpu["kernels"] = name_of(best_isa(host.cpu));
  } catch (const ConfigError&) {
    cpu["kernels"] = nullptr;
  }
  cpu["quota"] = host.cpu_quota > 0 ? json(host.cpu_quota) : json();
  cpu["governor"] = host.governor.empty() ? json() : json(host.governor);
  return cpu;
}

json limit_of(int64_t limit) { return limit == HostReport::kUnlimited ? json() : json(limit); }

json describe_memory(const HostReport& host) {
  return {{"bytes", host.memory_bytes},
          {"available_bytes", host.available_bytes},
          {"limit_bytes", limit_of(host.memory_limit)},
          {"huge_pages", host.huge_pages},
          {"locked_limit_bytes", limit_of(host.locked_memory)}};
}

json describe_gpus() {
  const CudaInventory inventory = find_cuda_devices();
  json gpu{{"devices", json::array()}};
  for (const CudaDevice& d : inventory.devices)
    gpu["devices"].push_back({{"name", d.name},
                              {"compute_capability", fmt::format("{}.{}", d.major, d.minor)},
                              {"multiprocessors", d.num_multiprocessors},
                              {"memory_bytes", d.memory_bytes}});
  gpu["why_none"] = inventory.devices.empty() ? json(inventory.why_none) : json();
  return gpu;
}

// Products on all ranks at once, as in training: a slow rank is what everybody waits for. In turns, so that a moment in
// which the machine is busy with something else does not hit one dtype alone.
json measure_gemm(Runtime& runtime, Communicator& all) {
  const DType dtypes[] = {DType::kF32, DType::kBF16};
  std::vector<double> best(2), less(2);
  for (int turn = 0; turn < kTurns; ++turn)
    for (size_t d = 0; d < 2; ++d) {
      all.barrier("GEMM")->wait_host();
      best[d] = std::max(best[d], measure_gemm_peak(runtime, dtypes[d], kSeconds / kTurns));
    }
  for (size_t d = 0; d < 2; ++d) less[d] = -best[d];
  const std::vector<double> sum = sum_doubles(all, best, "GEMM"), fastest = max_doubles(all, best, "fastest"),
                            slowest = max_doubles(all, less, "slowest");
  json gemm;
  for (size_t d = 0; d < 2; ++d)
    gemm[name_of(dtypes[d])] = {
        {"flops", sum[d]}, {"slowest_rank_flops", -slowest[d]}, {"fastest_rank_flops", fastest[d]}};
  return gemm;
}

json measure_memory_of_all(Runtime& runtime, World& world) {
  MemoryBandwidth one, together;
  if (world.rank() == 0) one = measure_memory(runtime, false, 1, kSeconds);
  world.all().barrier("memory")->wait_host();
  together = measure_memory(runtime, true, world.ranks_on_host(), kSeconds);
  return {{"copy_one_thread", one.copy},
          {"triad_one_thread", one.triad},
          {"copy", sum_over(world.all(), together.copy)},
          {"triad", sum_over(world.all(), together.triad)}};
}

json measure_collectives(Communicator& all) {
  json rows = json::array();
  for (const int64_t bytes : kAllReduceBytes) {
    const double seconds = measure_all_reduce(all, bytes, kSeconds);
    rows.push_back(
        {{"bytes", bytes}, {"seconds", seconds}, {"bytes_per_second", static_cast<double>(bytes) / seconds}});
  }
  return rows;
}

void measure(json& report, World& world, int threads) {
  const double lame = report["cpu"]["kernels"].is_null() ? 1 : 0;
  if (sum_over(world.all(), lame) > 0) return;  // some rank cannot compute
  RuntimeOptions options;
  options.threads = threads;
  Runtime runtime(options);
  report["gemm"] = measure_gemm(runtime, world.all());
  report["memory_bandwidth"] = measure_memory_of_all(runtime, world);
  if (world.size() > 1) report["all_reduce"] = measure_collectives(world.all());
}

std::vector<std::string> hindrances_of_speed(const json& report) {
  std::vector<std::string> found;
  if (!report.contains("gemm")) return found;
  const json &f32 = report["gemm"]["f32"], &bf16 = report["gemm"]["bf16"];
  if (bf16["flops"].get<double>() < 0.9 * f32["flops"].get<double>())
    found.emplace_back("bf16 products are slower than f32 ones on this CPU: train.precision=f32 is faster");
  const double slowest = f32["slowest_rank_flops"], fastest = f32["fastest_rank_flops"];
  if (slowest < 0.6 * fastest)
    found.push_back(fmt::format("the slowest rank computes at {:.0f} % of the fastest, and all wait for it",
                                100 * slowest / fastest));
  return found;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// Every rank's hindrances, once each; with the host's name where there are several hosts.
json gather_warnings(Communicator& all, const HostReport& host, const HostUse& use) {
  std::vector<std::string> mine = find_hindrances(host, use);
  if (use.hosts > 1)
    for (std::string& line : mine) line.insert(0, host.host + ": ");
  json warnings = json::array();
  std::set<std::string> seen;
  for (const std::string& text : gather_texts(all, joined(mine), "warnings"))
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      const std::string line = text.substr(at, end - at);
      if (seen.insert(line).second) warnings.push_back(line);
      at = end + 1;
    }
  return warnings;
}

}  // namespace

json examine(World& world, const DoctorOptions& options) {
  Communicator& all = world.all();
  const HostReport host = read_host();
  const std::vector<std::string> names = gather_texts(all, host.host, "hosts");
  const std::set<std::string> hosts(names.begin(), names.end());
  const int threads = options.threads > 0 ? options.threads : share_threads(all).threads;
  const HostUse use{world.ranks_on_host(), threads, static_cast<int>(hosts.size())};
  const LaunchPlace place = find_launch_place([](const char* name) { return std::getenv(name); });

  json report;
  report["version"] = DEEPFLOW_VERSION;
  report["ranks"] = {{"launcher", place.launcher.empty() ? json() : json(place.launcher)},
                     {"size", world.size()},
                     {"hosts", hosts},
                     {"threads", threads},
                     {"threads_of_all", static_cast<int64_t>(sum_over(all, threads))}};
  report["cpu"] = describe_cpu(host);
  report["memory"] = describe_memory(host);
  report["gpu"] = describe_gpus();
  report["libraries"] = json::object();
  for (const auto& [name, version] : library_versions()) report["libraries"][name] = version;
  if (options.measure) measure(report, world, threads);
  report["warnings"] = gather_warnings(all, host, use);
  for (const std::string& line : hindrances_of_speed(report)) report["warnings"].push_back(line);
  return report;
}

}  // namespace deepflow
