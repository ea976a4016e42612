#include "engine/thread_share.h"

#include "core/thread_pool.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

namespace deepflow {
namespace {

std::string host_name() {
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  return name;
}

CpuSet parse(const std::string& text) {
  std::istringstream in(text);
  CpuSet set;
  in >> set.host;
  for (int cpu = 0; in >> cpu;) set.cpus.push_back(cpu);
  return set;
}

}  // namespace

int fair_threads(const std::vector<CpuSet>& ranks, int rank) {
  const CpuSet& mine = ranks[static_cast<size_t>(rank)];
  double share = 0;
  for (const int cpu : mine.cpus) {
    int users = 0;
    for (const CpuSet& other : ranks)
      users += other.host == mine.host && std::find(other.cpus.begin(), other.cpus.end(), cpu) != other.cpus.end();
    share += 1.0 / users;
  }
  return std::max(1, static_cast<int>(share + 1e-6));
}

std::vector<int> fair_cpus(const std::vector<CpuSet>& ranks, int rank, int threads) {
  const CpuSet& mine = ranks[static_cast<size_t>(rank)];
  size_t before = 0, sharers = 0;
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].host != mine.host) continue;
    if (ranks[r].cpus == mine.cpus) {
      before += r < static_cast<size_t>(rank);
      ++sharers;
    } else if (std::find_first_of(mine.cpus.begin(), mine.cpus.end(), ranks[r].cpus.begin(), ranks[r].cpus.end()) !=
               mine.cpus.end()) {
      return {};
    }
  }
  const auto count = static_cast<size_t>(threads);
  if (count * sharers != mine.cpus.size()) return {};
  const auto first = mine.cpus.begin() + static_cast<std::ptrdiff_t>(before * count);
  return {first, first + threads};
}

ThreadShare share_threads(Communicator& all) {
  const std::string mine = fmt::format("{} {}", host_name(), fmt::join(allowed_cpus(), " "));
  std::vector<CpuSet> ranks;
  for (const std::string& text : gather_texts(all, mine, "CPUs of the ranks")) ranks.push_back(parse(text));
  // A cgroup quota is below what the masks show; the ranks of the host are taken to share it.
  const auto on_host = std::count_if(ranks.begin(), ranks.end(), [](const CpuSet& r) { return r.host == host_name(); });
  const int quota = available_cores() < static_cast<int>(allowed_cpus().size())
                        ? std::max(1, available_cores() / static_cast<int>(on_host))
                        : available_cores();
  const int threads = std::min(quota, fair_threads(ranks, all.rank()));
  return {threads, fair_cpus(ranks, all.rank(), threads)};
}

}  // namespace deepflow
