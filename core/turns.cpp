#include "core/turns.h"

#include "core/error.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <utility>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DF_ADDRESS_SANITIZER 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define DF_ADDRESS_SANITIZER 1
#endif

#ifdef DF_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

namespace deepflow {
namespace {

constexpr size_t kStackBytes = size_t{8} << 20;  // as a main thread has; only pages that are touched become memory
constexpr size_t kGuardBytes = size_t{64} << 10;

// Unwinds the strand that is left when the other has failed.
struct Stopped {};

class WaitedInTurns final : public Work {
 public:
  WaitedInTurns(Turns& turns, WorkPtr work) : turns_(turns), work_(std::move(work)) {}
  void wait(Stream& stream) override {
    turns_.yield();
    work_->wait(stream);
  }
  void wait_host() override {
    turns_.yield();
    work_->wait_host();
  }

 private:
  Turns& turns_;
  WorkPtr work_;
};

}  // namespace

// One of the two: where it handed over, and what a sanitizer must know of its stack.
struct Turns::Strand {
  ucontext_t place;
  void* fake = nullptr;
  const void* bottom = nullptr;
  size_t bytes = 0;
};

class Turns::Stack {
 public:
  Stack()
      : memory_(mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0)) {
    if (memory_ == MAP_FAILED) throw StorageError("out of memory: cannot map {} MiB for a stack", kStackBytes >> 20);
    mprotect(memory_, kGuardBytes, PROT_NONE);
  }
  ~Stack() { munmap(memory_, kStackBytes + kGuardBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  void* bottom() const { return static_cast<char*>(memory_) + kGuardBytes; }

 private:
  void* const memory_;
};

Turns::Turns() = default;
Turns::~Turns() = default;

void Turns::run(const std::function<void()>& first, const std::function<void()>& second) {
  DF_ASSERT(!running_, "turns within turns");
  if (!stack_) stack_ = std::make_unique<Stack>();
  Strand here, there;
  getcontext(&there.place);
  there.place.uc_stack.ss_sp = stack_->bottom();
  there.place.uc_stack.ss_size = kStackBytes;
  there.bottom = stack_->bottom();
  there.bytes = kStackBytes;
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(&there.place, reinterpret_cast<void (*)()>(&Turns::begin_second), 2, static_cast<unsigned>(self >> 32),
              static_cast<unsigned>(self));
  strands_[0] = &here, strands_[1] = &there;
  second_ = &second;
  running_ = true;
  second_began_ = ended_[0] = ended_[1] = false;
  act(first);
  ended_[0] = true;
  const bool wanted = second_began_ || !error_;
  if (!ended_[1] && wanted) hand_over();
  running_ = false;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Turns::yield() {
  if (!running_ || ended_[1 - now_]) return;
  ++num_yields_;
  hand_over();
  if (error_) throw Stopped();
}

void Turns::act(const std::function<void()>& strand) {
  try {
    strand();
  } catch (const Stopped&) {
  } catch (...) {
    error_ = std::current_exception();
  }
}

void Turns::hand_over() {
  Strand& from = *strands_[now_];
  Strand& to = *strands_[1 - now_];
  now_ = 1 - now_;
#ifdef DF_ADDRESS_SANITIZER
  const bool for_good = now_ == 0 && ended_[1];  // the first one's stack goes on behind `run`
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake, to.bottom, to.bytes);
#endif
  swapcontext(&from.place, &to.place);
  arrived(from, to);
}

// On a stack that was left before, or that begins.
void Turns::arrived([[maybe_unused]] Strand& here, [[maybe_unused]] Strand& other) {
#ifdef DF_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(here.fake, &other.bottom, &other.bytes);
#endif
}

void Turns::begin_second(unsigned high, unsigned low) {
  auto& turns = *reinterpret_cast<Turns*>(uintptr_t{high} << 32 | low);
  arrived(*turns.strands_[1], *turns.strands_[0]);
  turns.second_began_ = true;
  turns.act(*turns.second_);
  turns.ended_[1] = true;
  turns.hand_over();  // for good
}

WorkPtr waited_in_turns(Turns& turns, WorkPtr work) { return std::make_shared<WaitedInTurns>(turns, std::move(work)); }

}  // namespace deepflow
