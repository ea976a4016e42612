#include "parallel/bootstrap.h"

#include "core/error.h"
#include "parallel/mpi_communicator.h"
#include "parallel/mpi_thread.h"
#include "parallel/self_communicator.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <thread>

namespace deepflow {
namespace {

std::optional<int> number(const Environment& environment, const char* name) {
  const char* text = environment(name);
  if (!text) return {};
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != 0 || value < 0 || value > 1 << 24) return {};
  return static_cast<int>(value);
}

// SLURM_STEP_TASKS_PER_NODE: "2(x3),1" means 2, 2, 2, 1.
std::optional<int> tasks_on_node(const char* text, std::optional<int> node) {
  if (!text || !node) return {};
  int left = *node;
  while (*text) {
    char* end = nullptr;
    const long tasks = std::strtol(text, &end, 10);
    if (end == text) return {};
    long times = 1;
    if (end[0] == '(' && end[1] == 'x') {
      times = std::strtol(end + 2, &end, 10);
      if (*end != ')') return {};
      ++end;
    }
    if (left < times) return static_cast<int>(tasks);
    left -= static_cast<int>(times);
    text = *end == ',' ? end + 1 : end;
  }
  return {};
}

MpiQueue::Members world_members(int rank, int size) {
  MpiQueue::Members members{MPI_COMM_WORLD, rank, std::vector<int>(static_cast<size_t>(size))};
  std::iota(members.world_ranks.begin(), members.world_ranks.end(), 0);
  return members;
}

}  // namespace

LaunchPlace find_launch_place(const Environment& environment) {
  const auto get = [&](const char* name) { return number(environment, name); };
  if (environment("OMPI_COMM_WORLD_SIZE"))
    return {"mpirun", get("OMPI_COMM_WORLD_RANK"), get("OMPI_COMM_WORLD_SIZE"), get("OMPI_COMM_WORLD_LOCAL_RANK"),
            get("OMPI_COMM_WORLD_LOCAL_SIZE")};
  // SLURM_STEP_NUM_TASKS is there in a step that srun started, and not in a batch script itself.
  if (environment("SLURM_STEP_NUM_TASKS") && environment("SLURM_PROCID"))
    return {"srun", get("SLURM_PROCID"), get("SLURM_STEP_NUM_TASKS"), get("SLURM_LOCALID"),
            tasks_on_node(environment("SLURM_STEP_TASKS_PER_NODE"), get("SLURM_NODEID"))};
  if (environment("PMI_SIZE"))
    return {"PMI", get("PMI_RANK"), get("PMI_SIZE"), get("MPI_LOCALRANKID"), get("MPI_LOCALNRANKS")};
  if (environment("PMIX_RANK")) return {"PMIx", get("PMIX_RANK"), {}, {}, {}};
  return {};
}

World::World(const LaunchPlace& place, const CommOptions& options)
    : options_(options), exceptions_(std::uncaught_exceptions()) {
  if (place.launcher.empty() || place.size == 1) {
    all_ = make_self_communicator("world");
    return;
  }
  mpi_ = std::make_unique<MpiThread>(options);
  if (place.rank && place.size && place.local_rank && place.ranks_on_host)
    check_place(place);
  else
    find_own_place(place);
}

// The environment says it all, so that MPI can start while other things are done.
void World::check_place(const LaunchPlace& place) {
  local_rank_ = *place.local_rank;
  ranks_on_host_ = *place.ranks_on_host;
  const auto queue = mpi_->add_queue("world", world_members(*place.rank, *place.size));
  mpi_->post([place, queue] {
    int rank = 0, size = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == *place.rank && size == *place.size) return;
    queue->fail_later(
        fmt::format("{} started {} ranks, but MPI sees {}: it was built for another launcher; use mpirun, or srun "
                    "--mpi=pmix",
                    place.launcher, *place.size, size));
  });
  all_ = make_mpi_communicator(*mpi_, queue);
}

void World::find_own_place(const LaunchPlace& place) {
  int rank = 0, size = 0;
  mpi_->call([&] {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm host;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host),
              "MPI_Comm_split_type");
    MPI_Comm_rank(host, &local_rank_);
    MPI_Comm_size(host, &ranks_on_host_);
    MPI_Comm_free(&host);
  });
  if (place.size && *place.size != size)
    throw CommError(
        "{} started {} ranks, but MPI sees {}: it was built for another launcher; use mpirun, or srun "
        "--mpi=pmix",
        place.launcher, *place.size, size);
  all_ = make_mpi_communicator(*mpi_, mpi_->add_queue("world", world_members(rank, size)));
}

World::~World() {
  if (!mpi_) return;
  if (std::uncaught_exceptions() > exceptions_ || mpi_->broken()) mpi_->abort(2);
  try {
    all_->barrier("end of the job")->wait_host();
  } catch (const std::exception&) {
    mpi_->abort(2);
  }
}

void World::record_spans(Trace* trace) {
  if (mpi_) mpi_->set_trace(trace);
}

std::string World::flight_report() const { return mpi_ ? mpi_->flight_report() : std::string(); }

void World::fail(const std::string& message, int exit_code) {
  // Time for a lower rank that fails as well to speak and to end the job, which takes a while on a loaded machine.
  if (rank() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(600 + 20 * std::min(rank(), 40)));
  const std::string who = size() > 1 ? fmt::format("rank {}: ", rank()) : std::string();
  std::fprintf(stderr, "deepflow: %s%s\n", who.c_str(), message.c_str());
  std::fflush(stderr);
  if (mpi_ && !options_.flight_dir.empty()) {
    const std::string path = fmt::format("{}/flight-{}.txt", options_.flight_dir, rank());
    if (std::FILE* file = std::fopen(path.c_str(), "w")) {
      std::fputs(flight_report().c_str(), file);
      std::fclose(file);
    }
  }
  if (mpi_) mpi_->abort(exit_code);
  std::fflush(nullptr);
  _exit(exit_code);
}

std::unique_ptr<World> start_world(const CommOptions& options) {
  return std::make_unique<World>(find_launch_place([](const char* name) { return std::getenv(name); }), options);
}

int run_world(const CommOptions& options, const std::function<int(World&)>& body) {
  const std::unique_ptr<World> world = start_world(options);
  try {
    return body(*world);
  } catch (const Error& error) {
    world->fail(error.what(), 2);
  } catch (const std::exception& error) {
    world->fail(fmt::format("internal error: {}", error.what()), 3);
  }
}

}  // namespace deepflow
