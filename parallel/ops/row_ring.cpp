#include "parallel/ops/row_ring.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <utility>

namespace deepflow {
namespace {

// One hop: rows to the next rank, others from the one before. Messages of no rows are not sent.
WorkPtr begin_hop(Communicator& comm, const Tensor& to_next, const Tensor& from_previous, const std::string& name) {
  const int n = comm.size();
  std::vector<PointToPoint> messages;
  if (to_next.num_elements() > 0) messages.push_back({(comm.rank() + 1) % n, true, to_next});
  if (from_previous.num_elements() > 0) messages.push_back({(comm.rank() + n - 1) % n, false, from_previous});
  return messages.empty() ? nullptr : comm.batch(messages, name);
}

void finish_hop(WorkPtr& hop, Stream& stream) {
  if (hop) std::exchange(hop, nullptr)->wait(stream);
}

// Parts of fewer rows would cost products their speed.
constexpr int64_t kLeastRowsOfAPart = 256;
constexpr int64_t kMostParts = 4;

struct Addition {
  WorkPtr hop;
  Tensor to, received;
};

class LastAdditions final : public Work {
 public:
  LastAdditions(Runtime& runtime, std::vector<Addition> additions)
      : runtime_(runtime), additions_(std::move(additions)) {}

  void wait(Stream& stream) override {
    add_all([&](WorkPtr& hop) { finish_hop(hop, stream); });
  }
  void wait_host() override {
    add_all([](WorkPtr& hop) {
      if (hop) std::exchange(hop, nullptr)->wait_host();
    });
  }

 private:
  template <class F>
  void add_all(F&& finish) {
    for (Addition& a : additions_) {
      finish(a.hop);
      if (a.to.rows() > 0) add_into(runtime_, a.to, a.received);
    }
    additions_.clear();
  }

  Runtime& runtime_;
  std::vector<Addition> additions_;
};

}  // namespace

RingSteps::RingSteps(const Deal& deal)
    : deal_(deal), parts_(static_cast<int>(std::clamp<int64_t>(deal.most() / kLeastRowsOfAPart, 1, kMostParts))) {}

Tensor RingSteps::part_of(const Tensor& rows, int step) const {
  const int64_t part = step % parts_;
  return rows.row_range(first_of_part(rows.rows(), part), first_of_part(rows.rows(), part + 1));
}

Tensor RingSteps::make_places(Runtime& runtime, int64_t cols, DType dtype) const {
  const int64_t rows_of_a_place = (deal_.most() + parts_ - 1) / parts_;
  return Tensor::empty(runtime.memory(), {rows_of_a_place * parts_, cols}, dtype);
}

Tensor RingSteps::place_of(const Tensor& places, int step, int owner) const {
  const int64_t part = step % parts_, begin = places.rows() / parts_ * part, count = deal_.count(owner);
  return places.row_range(begin, begin + first_of_part(count, part + 1) - first_of_part(count, part));
}

GatherRing::GatherRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor own,
                       Tensor all, std::string name)
    : RingSteps(deal),
      stream_(stream),
      comm_(*tp.comm),
      own_(std::move(own)),
      all_(std::move(all)),
      name_(std::move(name)),
      hops_(static_cast<size_t>(num_steps())) {
  DF_ASSERT(own_.is_contiguous() && own_.rows() == deal.count(tp.rank()), "{}: {} rows of {}", name_, own_.rows(),
            deal.total);
  if (!all_.defined()) {
    for (Tensor& buffer : buffers_) buffer = make_places(runtime, own_.cols(), own_.dtype());
    return;
  }
  Tensor place = deal.part(all_, tp.rank());
  if (place.rows() > 0) copy(runtime, own_, place);
}

Tensor GatherRing::rows(int step) const {
  if (round(step) == 0) return part_of(own_, step);
  const int rank = owner(step);
  return all_.defined() ? part_of(deal_.part(all_, rank), step) : place_of(buffers_[round(step) % 2], step, rank);
}

void GatherRing::send_on(int step) {
  if (is_last_round(step)) return;
  const int next = step + num_parts();
  hops_[static_cast<size_t>(next)] = begin_hop(comm_, rows(step), rows(next), name_);
}

void GatherRing::begin() {
  while (begun_ < num_parts()) send_on(begun_++);
}

void GatherRing::pass_on(int step) {
  finish_hop(hops_[static_cast<size_t>(step)], stream_);
  while (begun_ <= step) send_on(begun_++);
}

void GatherRing::finish() {
  for (WorkPtr& hop : hops_) finish_hop(hop, stream_);
}

ReduceRing::ReduceRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor out,
                       std::string name)
    : RingSteps(deal),
      runtime_(runtime),
      stream_(stream),
      comm_(*tp.comm),
      out_(std::move(out)),
      received_(make_places(runtime, out_.cols(), out_.dtype())),
      name_(std::move(name)),
      hops_(static_cast<size_t>(num_steps())) {
  DF_ASSERT(out_.is_contiguous() && out_.rows() == deal.count(tp.rank()), "{}: {} rows of {}", name_, out_.rows(),
            deal.total);
  for (Tensor& summand : summands_) summand = make_places(runtime, out_.cols(), out_.dtype());
}

Tensor ReduceRing::summand(int step) const {
  return is_last_round(step) ? part_of(out_, step) : place_of(summands_[round(step) % 2], step, owner(step));
}

void ReduceRing::add(int step) {
  finish_hop(hops_[static_cast<size_t>(step)], stream_);
  Tensor sum = summand(step);
  if (round(step) > 0 && sum.rows() > 0) add_into(runtime_, sum, place_of(received_, step, owner(step)));
  if (is_last_round(step)) return;
  const int next = step + num_parts();
  hops_[static_cast<size_t>(next)] = begin_hop(comm_, sum, place_of(received_, next, owner(next)), name_);
}

WorkPtr ReduceRing::last_additions() {
  std::vector<Addition> additions;
  for (int step = num_steps() - num_parts(); step < num_steps(); ++step)
    additions.push_back({std::exchange(hops_[static_cast<size_t>(step)], nullptr), part_of(out_, step),
                         place_of(received_, step, owner(step))});
  return std::make_shared<LastAdditions>(runtime_, std::move(additions));
}

}  // namespace deepflow
