#include "core/thread_pool.h"

#include "core/error.h"

#include <sched.h>

#include <cmath>
#include <fstream>
#include <string>

// libgomp's entry points, called directly so that gcc and clang builds share the team of oneDNN's own loops.
extern "C" {
void GOMP_parallel(void (*fn)(void*), void* data, unsigned num_threads, unsigned flags);
int omp_get_thread_num(void);
int omp_get_num_threads(void);
int omp_get_max_threads(void);
void omp_set_num_threads(int);
void omp_set_dynamic(int);
}

namespace deepflow {
namespace {

cpu_set_t allowed_now() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) CPU_SET(0, &set);
  return set;
}
const cpu_set_t kAllowedAtStart = allowed_now();  // before any thread was pinned

}  // namespace

ThreadPool::ThreadPool(int num_threads) : num_threads_(std::max(1, num_threads)) {
  omp_set_dynamic(0);
  adopt_caller();
}

void ThreadPool::adopt_caller() const {
  if (omp_get_max_threads() != num_threads_) omp_set_num_threads(num_threads_);
}

void ThreadPool::run_erased(Body body, void* closure, int num_threads) {
  if (num_threads == 1) {
    body(closure, 0, 1);
    return;
  }
  struct Call {
    Body body;
    void* closure;
  } call{body, closure};
  GOMP_parallel(
      [](void* c) {
        auto* call_ = static_cast<Call*>(c);
        call_->body(call_->closure, omp_get_thread_num(), omp_get_num_threads());
      },
      &call, static_cast<unsigned>(num_threads), 0);
}

void ThreadPool::pin(const std::vector<int>& cpus) const {
  DF_ASSERT(cpus.size() == static_cast<size_t>(num_threads_), "{} CPUs for {} threads", cpus.size(), num_threads_);
  run([&](int thread, int) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(cpus[static_cast<size_t>(thread)]), &one);
    sched_setaffinity(0, sizeof(one), &one);
  });
}

void use_any_cpu() { sched_setaffinity(0, sizeof(kAllowedAtStart), &kAllowedAtStart); }

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(static_cast<size_t>(cpu), &kAllowedAtStart)) cpus.push_back(cpu);
  return cpus;
}

int available_cores() {
  int cores = CPU_COUNT(&kAllowedAtStart);
  std::ifstream quota("/sys/fs/cgroup/cpu.max");
  std::string limit;
  double period = 0;
  if (quota >> limit >> period && limit != "max" && period > 0)
    cores = std::min(cores, static_cast<int>(std::ceil(std::stod(limit) / period)));
  return std::max(1, cores);
}

}  // namespace deepflow
