// Latency and bandwidth of the in-place f32 all_reduce beside MPI_Allreduce in the same run, and what a transfer in the
// background costs a loop that computes. Run: tests/mpirun 2 build/bench_collectives
#include "core/tensor.h"
#include "parallel/bootstrap.h"
#include "parallel/mpi_thread.h"

#include <mpi.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

namespace deepflow {
namespace {

double seconds() { return Trace::now_us() * 1e-6; }

double clock_of(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// What the MPI thread used of a core, while the calling thread is the only other one that runs.
double background_cpu() { return clock_of(CLOCK_PROCESS_CPUTIME_ID) - clock_of(CLOCK_THREAD_CPUTIME_ID); }

double median(std::vector<double> times) {
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

Tensor ones(int64_t n) {
  const auto memory = std::make_shared<std::vector<float>>(static_cast<size_t>(n), 1.0f);
  return Tensor::wrap(memory->data(), {n}, DType::kF32, {}, memory);
}

// Arithmetic in registers and the first cache level; returns its own time per round so that the work can be calibrated.
double compute(int64_t rounds) {
  static std::vector<float> x(2048, 1.0f);
  const double begin = seconds();
  for (int64_t r = 0; r < rounds; ++r)
    for (float& v : x) v = v * 0.999f + 0.001f;
  return seconds() - begin;
}

struct Row {
  int64_t bytes;
  double ours, peer;
};

Row measure(World& world, int64_t bytes) {
  Communicator& comm = world.all();
  const Tensor t = ones(bytes / 4);
  const int repeats = bytes <= 1 << 20 ? 60 : 12;
  std::vector<double> ours, peer;
  for (int i = 0; i < repeats; ++i) {
    comm.barrier("before")->wait_host();
    double begin = seconds();
    comm.all_reduce(t, ReduceOp::kSum, "bench")->wait_host();
    ours.push_back(max_doubles(comm, std::vector<double>{seconds() - begin}, "time")[0]);
    comm.barrier("before")->wait_host();
    double time = 0;
    world.mpi()->call([&] {
      MPI_Barrier(MPI_COMM_WORLD);
      begin = seconds();
      MPI_Allreduce(MPI_IN_PLACE, t.raw(), static_cast<int>(bytes / 4), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      time = seconds() - begin;
    });
    peer.push_back(max_doubles(comm, std::vector<double>{time}, "time")[0]);
  }
  return {bytes, median(ours), median(peer)};
}

void report_table(World& world) {
  if (world.rank() == 0)
    std::printf("%d ranks, in-place f32 all_reduce\n%10s %12s %10s %12s %10s\n", world.size(), "KiB", "ours us", "GB/s",
                "MPI us", "GB/s");
  for (int64_t bytes = 4096; bytes <= 64 << 20; bytes *= 4) {
    const Row row = measure(world, bytes);
    if (world.rank() == 0)
      std::printf("%10ld %12.1f %10.2f %12.1f %10.2f\n", static_cast<long>(bytes >> 10), row.ours * 1e6,
                  static_cast<double>(bytes) / row.ours * 1e-9, row.peer * 1e6,
                  static_cast<double>(bytes) / row.peer * 1e-9);
  }
}

struct Loop {
  double wall, background;  // seconds; of the loop, and of a core used by the MPI thread during it
};

Loop run_loop(int64_t rounds) {
  const double cpu = background_cpu();
  const double wall = compute(rounds);
  return {wall, background_cpu() - cpu};
}

Loop median_of(const std::vector<Loop>& loops) {
  std::vector<double> wall, background;
  for (const Loop& l : loops) {
    wall.push_back(l.wall);
    background.push_back(l.background);
  }
  return {median(wall), median(background)};
}

// A loop that computes alone, in front of a transfer in flight, and while the other ranks are late.
void report_overlap(World& world) {
  Communicator& comm = world.all();
  const auto rounds = static_cast<int64_t>(0.2 / (compute(20'000) / 20'000));
  const Tensor t = ones(16 << 20), small = ones(1024);
  std::vector<Loop> alone, busy, late;
  std::vector<double> transfer;
  for (int i = 0; i < 7; ++i) {
    comm.barrier("before")->wait_host();
    alone.push_back(run_loop(rounds));
    comm.barrier("before")->wait_host();
    const double cpu = background_cpu();
    comm.all_reduce(t, ReduceOp::kSum, "waited for")->wait_host();
    transfer.push_back(background_cpu() - cpu);
    comm.barrier("before")->wait_host();
    const WorkPtr work = comm.all_reduce(t, ReduceOp::kSum, "behind compute");
    busy.push_back(run_loop(rounds));
    work->wait_host();
    comm.barrier("before")->wait_host();
    if (world.rank() != 0) compute(rounds * 2);
    const WorkPtr slow = comm.all_reduce(small, ReduceOp::kSum, "others are late");
    late.push_back(run_loop(rounds));
    slow->wait_host();
  }
  if (world.rank() != 0) return;
  const Loop a = median_of(alone), b = median_of(busy), c = median_of(late);
  std::printf("\ncompute loop              ms   MPI thread, ms of a core\n");
  std::printf("alone            %11.1f %14.2f\n", a.wall * 1e3, a.background * 1e3);
  std::printf("64 MiB in flight %11.1f %14.2f (%.2f when it is waited for)\n", b.wall * 1e3, b.background * 1e3,
              median(transfer) * 1e3);
  std::printf("others are late  %11.1f %14.2f (%.2f %% of the loop)\n", c.wall * 1e3, c.background * 1e3,
              c.background / c.wall * 100);
}

int run(World& world) {
  if (!world.mpi()) {
    std::printf("bench_collectives needs at least two ranks: tests/mpirun 2 build/bench_collectives\n");
    return 2;
  }
  report_table(world);
  report_overlap(world);
  return 0;
}

}  // namespace
}  // namespace deepflow

int main() { return deepflow::run_world({}, deepflow::run); }
