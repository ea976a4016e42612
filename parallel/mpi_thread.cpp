#include "parallel/mpi_thread.h"

#include "core/error.h"
#include "core/thread_pool.h"

#include <dlfcn.h>
#include <link.h>
#include <mpi.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>

namespace deepflow {
namespace {

using std::chrono::microseconds;

constexpr double kSpinSeconds = 1e-3;  // polling without a pause, while somebody waits
constexpr double kRestSeconds = 1;     // after so long without news polls become rare
constexpr double kTimeoutCheckSeconds = 0.02;
constexpr auto kRestSleep = microseconds(10'000);
constexpr uint64_t kSliceNanoseconds = 100'000;  // the least that the kernel takes
constexpr auto kAbortGrace = std::chrono::seconds(10);

void start_mpi() {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

// A thread that asks for short slices runs soon after a sleep, also on cores that are full of computing threads: a
// transfer behind products gets through in the time that it takes. Linux 6.12 and later; others do not mind.
void ask_for_short_slices() {
  if (sched_getscheduler(0) != SCHED_OTHER) return;
  struct {  // sched_attr, whose header clashes with <sched.h>
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes{};
  attributes.size = sizeof(attributes);
  attributes.policy = SCHED_OTHER;
  attributes.nice = getpriority(PRIO_PROCESS, 0);
  attributes.runtime = kSliceNanoseconds;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

int print_nothing(const char*, const char*, bool, ...) { return 0; }

// Open MPI lets mpirun print a banner of eight lines about MPI_Abort, beside the one line that says what happened. Its
// printer is a variable of the library; other libraries have none of this name.
void silence_abort_banner() {
  void* const printer = dlsym(RTLD_DEFAULT, "opal_show_help");
  Dl_info where;
  void* symbol = nullptr;
  if (!printer || !dladdr1(printer, &where, &symbol, RTLD_DL_SYMENT) || !symbol) return;
  const auto* entry = static_cast<const ElfW(Sym)*>(symbol);
  if (ELF64_ST_TYPE(entry->st_info) != STT_OBJECT || entry->st_size != sizeof(void*)) return;
  using Print = int (*)(const char* file, const char* topic, bool header, ...);
  *static_cast<Print*>(printer) = print_nothing;
}

}  // namespace

MpiThread::MpiThread(const CommOptions& options) : options_(options) {
  // More ranks than cores are the rule on small machines: let the few blocking calls (start, end) give way.
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
  thread_ = std::thread([this] {
    use_any_cpu();
    ask_for_short_slices();
    run();
  });
}

MpiThread::~MpiThread() {
  stop_ = true;
  signal_->wake();
  thread_.join();
}

std::shared_ptr<MpiQueue> MpiThread::add_queue(std::string name, MpiQueue::Members members) {
  auto queue = std::make_shared<MpiQueue>(std::move(name), std::move(members), options_, signal_, staging_);
  const std::lock_guard lock(mutex_);
  queues_.push_back(queue);
  return queue;
}

void MpiThread::post(std::function<void()> f) {
  const std::lock_guard lock(mutex_);
  posted_.push_back(std::move(f));
  signal_->wake();
}

void MpiThread::call(const std::function<void()>& f) {
  std::packaged_task<void()> task(f);
  std::future<void> done = task.get_future();
  post([&task] { task(); });
  done.get();
}

void MpiThread::abort(int exit_code) {
  std::fflush(nullptr);
  abort_code_ = exit_code;
  signal_->wake();
  std::this_thread::sleep_for(kAbortGrace);  // MPI ends this process
  _exit(exit_code);
}

std::vector<std::shared_ptr<MpiQueue>> MpiThread::queues() const {
  const std::lock_guard lock(mutex_);
  return queues_;
}

bool MpiThread::broken() const {
  const auto all = queues();
  return std::any_of(all.begin(), all.end(), [](const auto& queue) { return queue->broken(); });
}

std::string MpiThread::flight_report() const {
  std::string text;
  for (const auto& queue : queues()) text += queue->recorder().report();
  return text;
}

void MpiThread::run() {
  prctl(PR_SET_TIMERSLACK, 1000);  // ns: sleeps are short
  prctl(PR_SET_NAME, "deepflow-mpi");
  start_mpi();
  double last_move = FlightRecorder::now(), last_check = last_move;
  bool active = true;
  while (active || !stop_) {
    if (abort_code_ >= 0) {
      silence_abort_banner();
      MPI_Abort(MPI_COMM_WORLD, abort_code_);
    }
    if (signal_->take()) take_news();
    active = false;
    const bool moved = advance_all(active);
    const double now = FlightRecorder::now();
    if (now - last_check > kTimeoutCheckSeconds) {
      for (const auto& queue : polled_) queue->check_timeout(now);
      last_check = now;
    }
    if (moved)
      last_move = now;
    else
      idle(active, now, last_move);
  }
  MPI_Finalize();
}

void MpiThread::take_news() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(posted_);
    polled_ = queues_;
  }
  for (const auto& f : posted) f();
  for (const auto& queue : polled_) queue->collect();
}

bool MpiThread::advance_all(bool& active) {
  bool moved = false;
  for (const auto& queue : polled_) {
    if (!queue->active()) continue;
    moved |= queue->advance();
    active |= queue->active();
  }
  return moved;
}

void MpiThread::idle(bool active, double now, double last_move) {
  const double rest = now - last_move;
  if (!active) {
    // Messages that count as sent may still lie in the library's buffers: only calls of MPI move them on.
    int unused = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_SELF, &unused, MPI_STATUS_IGNORE);
    signal_->sleep(rest < kRestSeconds ? microseconds(500) : kRestSleep);
  } else if (signal_->waiting() > 0 && rest < kSpinSeconds) {
    sched_yield();
  } else {
    // Who waits for another stage of a pipeline does so for long, and then every pause is on the way of the whole job.
    const double longest = rest >= kRestSeconds ? 1e-3 : signal_->waiting() > 0 ? 50e-6 : 200e-6;
    const double pause = std::clamp(rest / 4, 20e-6, longest);
    signal_->sleep(microseconds(static_cast<int64_t>(pause * 1e6)));
  }
}

}  // namespace deepflow
