#pragma once

#include "core/work.h"

#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>

namespace deepflow {

// Two functions that take turns on the calling thread: while one waits for a message the other computes. Each has a
// stack of its own and goes on where it left off, so they share the thread's team of the pool, its pinning and its
// caches. A hand-over costs a quarter of a microsecond.
//
// Who hands over when must depend on the program alone, never on what has arrived: then two functions that use the same
// communicators make their calls in the same order on every rank. One runtime has one (`Runtime::slot<Turns>`), for the
// thread that drives it.
class Turns {
 public:
  Turns();
  ~Turns();
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  // `first` begins; returns when both have ended. When one throws, the other is unwound where it handed over (or never
  // begins), and the exception leaves from here. Not within itself.
  void run(const std::function<void()>& first, const std::function<void()>& second);
  // The other one goes on, until it hands over or ends. Nothing happens outside of `run`, and once the other has ended.
  // Not within a catch block, nor from a destructor.
  void yield();
  int64_t num_yields() const { return num_yields_; }  // so far, those that handed over

 private:
  struct Strand;
  class Stack;
  void act(const std::function<void()>& strand);
  void hand_over();
  static void arrived(Strand& here, Strand& other);
  static void begin_second(unsigned high, unsigned low);

  std::unique_ptr<Stack> stack_;  // of the second, made by the first `run`
  const std::function<void()>* second_ = nullptr;
  std::array<Strand*, 2> strands_{};
  std::array<bool, 2> ended_{};
  size_t now_ = 0;  // which of them it is
  bool running_ = false, second_began_ = false;
  std::exception_ptr error_;
  int64_t num_yields_ = 0;
};

// `work`, whose waiter hands over before it waits.
WorkPtr waited_in_turns(Turns& turns, WorkPtr work);

}  // namespace deepflow
