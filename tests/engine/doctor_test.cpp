#include "engine/doctor.h"

#include "engine/host_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace deepflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A folder with files as below /proc and /sys.
class Host : public ::testing::Test {
 protected:
  Host() {
    char name[] = "/tmp/deepflow-host-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~Host() override { std::filesystem::remove_all(root_); }
  void file(const std::string& path, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << content;
  }
  std::string root_;
};

TEST_F(Host, IsReadFromProcAndSys) {
  file("/proc/meminfo", "MemTotal:       16384 kB\nMemFree:  100 kB\nMemAvailable:    8192 kB\n");
  file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  file("/sys/devices/system/cpu/smt/active", "1\n");
  file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "acpi-cpufreq\n");
  for (const char* node : {"node0", "node1", "node12"})
    file(std::string("/sys/devices/system/node/") + node + "/cpulist", "0");
  file("/sys/devices/system/node/online", "0-1");
  file("/proc/self/cgroup", "1:name=systemd:/x\n0::/slurm/job_7\n");
  file("/sys/fs/cgroup/slurm/cpu.max", "max 100000\n");
  file("/sys/fs/cgroup/slurm/memory.max", "8000000\n");
  file("/sys/fs/cgroup/slurm/job_7/cpu.max", "250000 100000\n");
  file("/sys/fs/cgroup/slurm/job_7/memory.max", "4000000\n");
  const HostReport r = read_host(root_);
  EXPECT_EQ(r.memory_bytes, 16384 * 1024);
  EXPECT_EQ(r.available_bytes, 8192 * 1024);
  EXPECT_EQ(r.huge_pages, "never");
  EXPECT_TRUE(r.smt);
  EXPECT_EQ(r.governor, "powersave");
  EXPECT_EQ(r.numa_nodes, 3);
  EXPECT_DOUBLE_EQ(r.cpu_quota, 2.5);
  EXPECT_EQ(r.memory_limit, 4'000'000);
}

TEST_F(Host, ThatTellsNothingKeepsTheDefaults) {
  const HostReport r = read_host(root_);
  EXPECT_EQ(r.memory_bytes, 0);
  EXPECT_EQ(r.cpu_quota, 0);
  EXPECT_EQ(r.memory_limit, HostReport::kUnlimited);
  EXPECT_EQ(r.numa_nodes, 1);
  EXPECT_EQ(r.huge_pages, "");
  EXPECT_GE(r.usable_cpus, 1);
}

HostReport good_host() {
  HostReport h;
  h.cpu.avx2 = h.cpu.fma = h.cpu.f16c = true;
  h.cpus = h.usable_cpus = 8;
  h.memory_bytes = int64_t{64} << 30;
  h.available_bytes = int64_t{60} << 30;
  h.huge_pages = "madvise";
  h.open_files = 1024;
  return h;
}

TEST(Hindrances, AreNoneOnAGoodHost) { EXPECT_THAT(find_hindrances(good_host(), {2, 4, 1}), IsEmpty()); }

TEST(Hindrances, NameWhatHurtsAndTheRemedy) {
  const HostUse use{2, 4, 1};
  const auto only = [](const std::vector<std::string>& found) {
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? "" : found[0];
  };
  EXPECT_THAT(only(find_hindrances(good_host(), {3, 4, 1})), HasSubstr("3 ranks x 4 threads on 8 CPUs"));
  HostReport h = good_host();
  h.usable_cpus = 1;
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("--bind-to none"));
  h = good_host();
  h.cpu_quota = 2.5;
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("grants 2.5 CPUs"));
  h = good_host();
  h.huge_pages = "never";
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("echo madvise"));
  h = good_host();
  h.governor = "powersave";
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("performance"));
  h.frequency_driver = "intel_pstate";
  EXPECT_THAT(find_hindrances(h, use), IsEmpty());
  h = good_host();
  h.available_bytes = int64_t{512} << 20;
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("only 512 MB of memory"));
  h = good_host();
  h.memory_limit = int64_t{2} << 30;
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("grants 2048 MB"));
  h = good_host();
  h.address_space = int64_t{1} << 32;
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("ulimit -v"));
  h = good_host();
  h.open_files = 256;
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("ulimit -n"));
  h = good_host();
  h.locked_memory = 65536;
  EXPECT_THAT(find_hindrances(h, use), IsEmpty());
  EXPECT_THAT(only(find_hindrances(h, {2, 4, 2})), HasSubstr("ulimit -l"));
  h = good_host();
  h.cpu.avx2 = false;
  EXPECT_THAT(only(find_hindrances(h, use)), HasSubstr("no AVX2"));
}

TEST(Doctor, MeasuresThisMachine) {
  World world({}, {});
  const nlohmann::json report = examine(world, {.threads = 1, .measure = true});
  EXPECT_EQ(report["ranks"]["size"], 1);
  EXPECT_EQ(report["ranks"]["threads_of_all"], 1);
  EXPECT_TRUE(report["ranks"]["launcher"].is_null());
  EXPECT_GT(report["memory"]["bytes"].get<int64_t>(), int64_t{1} << 28);
  for (const char* dtype : {"f32", "bf16"}) {
    EXPECT_GT(report["gemm"][dtype]["flops"].get<double>(), 1e9);
    EXPECT_EQ(report["gemm"][dtype]["flops"], report["gemm"][dtype]["slowest_rank_flops"]);
  }
  for (const char* pass : {"copy", "triad", "copy_one_thread", "triad_one_thread"}) {
    EXPECT_GT(report["memory_bandwidth"][pass].get<double>(), 1e8) << pass;
    EXPECT_LT(report["memory_bandwidth"][pass].get<double>(), 1e12) << pass;
  }
  EXPECT_FALSE(report.contains("all_reduce"));
  EXPECT_FALSE(report["libraries"].at("oneDNN").get<std::string>().empty());
  const std::string text = doctor_text(report);
  for (const char* part : {"GEMM", "bandwidth", "libraries", "warnings", "GPU"}) EXPECT_THAT(text, HasSubstr(part));
}

TEST(Doctor, TellsWithoutMeasuring) {
  World world({}, {});
  const nlohmann::json report = examine(world, {.threads = 1'000'000, .measure = false});
  EXPECT_FALSE(report.contains("gemm"));
  EXPECT_THAT(report["warnings"].dump(), HasSubstr("1 rank x 1000000 threads"));
  EXPECT_THAT(doctor_text(report), HasSubstr("1000000 threads"));
}

}  // namespace
}  // namespace deepflow
