#pragma once

#include "core/runtime.h"
#include "parallel/ops/deal.h"

#include <string>

namespace deepflow {

// Rows that are dealt over the ranks of a group go round a ring, rank r sending to r + 1, while every rank computes on
// those that are here: the two halves of an all-gather and a reduce-scatter that hide behind products (Wang et al.,
// "Overlap communication with dependent computation via decomposition", ASPLOS 2023). n ranks take n steps of one
// rank's rows each. The calls of all ranks match as long as they make the same ones in the same order.
//
// Each rank sends (n - 1) / n of the whole matrix.

// The rows of every rank come by, this rank's own first:
//     for (int s = 0; s < ring.num_steps(); ++s) { ring.pass_on(s); use(ring.rows(s)); }
class GatherRing {
 public:
  // own: this rank's rows, contiguous. With `all` [total, cols] the rows are collected there; undefined: two buffers.
  GatherRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor own, Tensor all,
             std::string name);

  int num_steps() const { return deal_.num_ranks; }
  int owner(int step) const { return (comm_.rank() + deal_.num_ranks - step) % deal_.num_ranks; }
  // Waits for the rows of `step` and begins to send them on, and to receive those of the next.
  void pass_on(int step);
  Tensor rows(int step) const;  // of rank owner(step), from its pass_on to the next
  void finish();                // waits for what is under way

 private:
  Stream& stream_;
  Communicator& comm_;
  Deal deal_;
  Tensor own_, all_, buffers_[2];
  std::string name_;
  WorkPtr hop_;
};

// Every rank has a summand of all rows; the sum of each rank's rows arrives there:
//     for (int s = 0; s < ring.num_steps(); ++s) { compute(ring.owner(s), ring.summand(s)); ring.add(s); }
// The rows of rank c are summed in the order c + 1, c + 2, ..., c, in the matrix's dtype, rounded at each addition.
class ReduceRing {
 public:
  // out: this rank's rows, contiguous.
  ReduceRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor out,
             std::string name);

  int num_steps() const { return deal_.num_ranks; }
  int owner(int step) const { return (comm_.rank() + 2 * deal_.num_ranks - 1 - step) % deal_.num_ranks; }
  Tensor summand(int step) const;  // to be written; of the last step: `out`
  // Adds what came from the ranks before and sends the sum on, except in the last step.
  void add(int step);
  // After the last summand, in place of its add: what makes the sum when it is waited for.
  WorkPtr last_addition();

 private:
  void add_received(int step);

  Runtime& runtime_;
  Stream& stream_;
  Communicator& comm_;
  Deal deal_;
  Tensor out_, summands_[2], received_;
  std::string name_;
  WorkPtr hop_;
};

}  // namespace deepflow
