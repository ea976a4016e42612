#include "engine/doctor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <vector>

namespace deepflow {
namespace {

using nlohmann::json;

std::string gigabytes(const json& bytes) { return fmt::format("{:.1f} GB", bytes.get<double>() * 1e-9); }
std::string giga(const json& rate) { return fmt::format("{:.1f}", rate.get<double>() * 1e-9); }

std::string plural(int64_t count, const char* one) { return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s"); }

std::string cpu_text(const json& cpu) {
  std::string text =
      fmt::format("{}  {}, {} usable here{}{}", cpu["model"].get<std::string>(), plural(cpu["cpus"], "CPU"),
                  cpu["usable_cpus"].get<int>(), cpu["hyperthreads"].get<bool>() ? ", hyperthreads on" : "",
                  cpu["numa_nodes"] == 1 ? "" : fmt::format(", {} NUMA nodes", cpu["numa_nodes"].get<int>()));
  if (!cpu["quota"].is_null()) text += fmt::format(", control group grants {:.1f}", cpu["quota"].get<double>());
  if (!cpu["governor"].is_null()) text += fmt::format(", governor {}", cpu["governor"].get<std::string>());
  return text;
}

std::string memory_text(const json& memory) {
  std::string text = fmt::format("{}, {} available, transparent huge pages {}", gigabytes(memory["bytes"]),
                                 gigabytes(memory["available_bytes"]), memory["huge_pages"].get<std::string>());
  if (!memory["limit_bytes"].is_null()) text += ", control group grants " + gigabytes(memory["limit_bytes"]);
  return text;
}

std::string ranks_text(const json& ranks) {
  const bool launched = !ranks["launcher"].is_null();
  return fmt::format("{} on {} ({}), {} a rank", plural(ranks["size"], "rank"),
                     plural(static_cast<int64_t>(ranks["hosts"].size()), "host"),
                     launched ? "started by " + ranks["launcher"].get<std::string>() : "no launcher",
                     plural(ranks["threads"], "thread"));
}

std::vector<std::string> gpu_texts(const json& gpu) {
  if (gpu["devices"].empty()) return {gpu["why_none"].get<std::string>()};
  std::vector<std::string> lines;
  for (const json& d : gpu["devices"])
    lines.push_back(fmt::format("{}  {}, compute capability {}, {} multiprocessors", d["name"].get<std::string>(),
                                gigabytes(d["memory_bytes"]), d["compute_capability"].get<std::string>(),
                                d["multiprocessors"].get<int>()));
  return lines;
}

std::string bytes_text(int64_t bytes) {
  return bytes < 1 << 20 ? fmt::format("{} KiB", bytes >> 10) : fmt::format("{} MiB", bytes >> 20);
}

class Page {
 public:
  void line(const std::string& title, const std::string& text) { text_ += fmt::format("{:<12}{}\n", title, text); }
  void lines(const std::string& title, const std::vector<std::string>& texts) {
    for (size_t i = 0; i < texts.size(); ++i) line(i == 0 ? title : "", texts[i]);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void add_speed(Page& page, const json& report) {
  std::vector<std::string> gemm;
  for (const auto& [dtype, figures] : report["gemm"].items())
    gemm.push_back(fmt::format("{:<5} {:>8} GFLOP/s", dtype, giga(figures["flops"])));
  page.lines("GEMM", gemm);
  const json& memory = report["memory_bandwidth"];
  page.lines("bandwidth",
             {fmt::format("copy  {:>8} GB/s, one thread {}", giga(memory["copy"]), giga(memory["copy_one_thread"])),
              fmt::format("triad {:>8} GB/s, one thread {}", giga(memory["triad"]), giga(memory["triad_one_thread"]))});
  std::vector<std::string> sums;
  for (const json& row : report.value("all_reduce", json::array()))
    sums.push_back(fmt::format("{:>7} {:>10.1f} us {:>8} GB/s", bytes_text(row["bytes"]),
                               row["seconds"].get<double>() * 1e6, giga(row["bytes_per_second"])));
  page.lines("all_reduce", sums);
}

}  // namespace

std::string doctor_text(const json& report) {
  Page page;
  page.line("DeepFlow", report["version"].get<std::string>());
  page.line("ranks", ranks_text(report["ranks"]));
  const json& cpu = report["cpu"];
  page.line("CPU", cpu_text(cpu));
  page.line("features", fmt::format("{}; kernels: {}", fmt::join(cpu["features"].get<std::vector<std::string>>(), " "),
                                    cpu["kernels"].is_null() ? "none" : cpu["kernels"].get<std::string>()));
  page.line("memory", memory_text(report["memory"]));
  page.lines("GPU", gpu_texts(report["gpu"]));
  std::vector<std::string> libraries;
  for (const auto& [name, version] : report["libraries"].items())
    libraries.push_back(fmt::format("{} {}", name, version.get<std::string>()));
  page.line("libraries", fmt::format("{}", fmt::join(libraries, ", ")));
  if (report.contains("gemm")) add_speed(page, report);
  std::vector<std::string> warnings = report["warnings"].get<std::vector<std::string>>();
  if (warnings.empty()) warnings = {"nothing found that would hurt"};
  page.lines("warnings", warnings);
  return page.take();
}

}  // namespace deepflow
