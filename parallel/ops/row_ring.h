#pragma once

#include "core/runtime.h"
#include "parallel/ops/deal.h"

#include <string>
#include <vector>

namespace deepflow {

// Rows that are dealt over the ranks of a group go round a ring, rank r sending to r + 1, while every rank computes on
// those that are here: the two halves of an all-gather and a reduce-scatter that hide behind products (Wang et al.,
// "Overlap communication with dependent computation via decomposition", ASPLOS 2023). n ranks take n rounds of one
// rank's rows each; many rows go in parts, so that of a round only its first part is waited for, or sent last. The
// calls of all ranks match as long as they make the same ones in the same order.
//
// Each rank sends (n - 1) / n of the whole matrix.

// The steps of a ring: part after part of the rows of one rank, round after round.
class RingSteps {
 public:
  explicit RingSteps(const Deal& deal);

  int num_steps() const { return deal_.num_ranks * parts_; }
  int num_parts() const { return parts_; }
  int round(int step) const { return step / parts_; }
  bool is_last_round(int step) const { return round(step) + 1 == deal_.num_ranks; }

 protected:
  Tensor part_of(const Tensor& rows, int step) const;  // of all rows of one rank, those of this step's part
  // Room for one rank's rows, every part of it in a place that is the same for all ranks, and a part there.
  Tensor make_places(Runtime& runtime, int64_t cols, DType dtype) const;
  Tensor place_of(const Tensor& places, int step, int owner) const;
  Deal deal_;

 private:
  int64_t first_of_part(int64_t count, int64_t part) const { return count * part / parts_; }
  int parts_;
};

// The rows of every rank come by, this rank's own first:
//     ring.begin();
//     for (int s = 0; s < ring.num_steps(); ++s) { ring.pass_on(s); use(ring.rows(s), ring.same_rows(s, other)); }
class GatherRing : public RingSteps {
 public:
  // own: this rank's rows, contiguous. With `all` [total, cols] the rows are collected there; undefined: two buffers.
  GatherRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor own, Tensor all,
             std::string name);

  int owner(int step) const { return (comm_.rank() + deal_.num_ranks - round(step)) % deal_.num_ranks; }
  // Sends all of this rank's rows at once. Without it they go part by part, as pass_on comes to them.
  void begin();
  // Waits for the rows of `step` and begins to send them on, and to receive those of the same step of the next round.
  void pass_on(int step);
  Tensor rows(int step) const;  // from its pass_on to that of the same step in the next round
  // The rows of `matrix` [total, cols] that rows(step) are.
  Tensor same_rows(int step, const Tensor& matrix) const { return part_of(deal_.part(matrix, owner(step)), step); }
  void finish();  // waits for what is under way

 private:
  void send_on(int step);

  Stream& stream_;
  Communicator& comm_;
  Tensor own_, all_, buffers_[2];
  std::string name_;
  std::vector<WorkPtr> hops_;  // by the step whose rows they bring
  int begun_ = 0;              // steps whose rows have been sent on
};

// Every rank has a summand of all rows; the sum of each rank's rows arrives there:
//     for (int s = 0; s < ring.num_steps(); ++s) { compute(ring.same_rows(s, x), ring.summand(s)); ring.add(s); }
// The rows of rank c are summed in the order c + 1, c + 2, ..., c, in the matrix's dtype, rounded at each addition.
class ReduceRing : public RingSteps {
 public:
  // out: this rank's rows, contiguous.
  ReduceRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor out,
             std::string name);

  int owner(int step) const { return (comm_.rank() + 2 * deal_.num_ranks - 1 - round(step)) % deal_.num_ranks; }
  Tensor same_rows(int step, const Tensor& matrix) const { return part_of(deal_.part(matrix, owner(step)), step); }
  Tensor summand(int step) const;  // to be written; of the last round: part of `out`
  // Adds what came from the ranks before and sends the sum on, except in the last round.
  void add(int step);
  // After all summands, in place of the last round's adds: what makes the sum when it is waited for.
  WorkPtr last_additions();

 private:
  Runtime& runtime_;
  Stream& stream_;
  Communicator& comm_;
  Tensor out_, summands_[2], received_;
  std::string name_;
  std::vector<WorkPtr> hops_;  // by the step that they bring the sum for
};

}  // namespace deepflow
