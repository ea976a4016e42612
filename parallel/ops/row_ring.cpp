#include "parallel/ops/row_ring.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

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

class LastAddition final : public Work {
 public:
  LastAddition(Runtime& runtime, WorkPtr hop, Tensor out, Tensor received)
      : runtime_(runtime), hop_(std::move(hop)), out_(std::move(out)), received_(std::move(received)) {}

  void wait(Stream& stream) override {
    if (!received_.defined()) return;
    finish_hop(hop_, stream);
    add();
  }
  void wait_host() override {
    if (!received_.defined()) return;
    if (hop_) std::exchange(hop_, nullptr)->wait_host();
    add();
  }

 private:
  void add() {
    if (out_.rows() > 0) add_into(runtime_, out_, received_);
    out_ = received_ = Tensor();
  }

  Runtime& runtime_;
  WorkPtr hop_;
  Tensor out_, received_;
};

}  // namespace

GatherRing::GatherRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor own,
                       Tensor all, std::string name)
    : stream_(stream),
      comm_(*tp.comm),
      deal_(deal),
      own_(std::move(own)),
      all_(std::move(all)),
      name_(std::move(name)) {
  DF_ASSERT(own_.is_contiguous() && own_.rows() == deal.count(tp.rank()), "{}: {} rows of {}", name_, own_.rows(),
            deal.total);
  if (!all_.defined()) {
    for (Tensor& buffer : buffers_) buffer = Tensor::empty(runtime.memory(), {deal.most(), own_.cols()}, own_.dtype());
    return;
  }
  Tensor place = deal.part(all_, tp.rank());
  if (place.rows() > 0) copy(runtime, own_, place);
}

Tensor GatherRing::rows(int step) const {
  if (step == 0) return own_;
  const int rank = owner(step);
  return all_.defined() ? deal_.part(all_, rank) : buffers_[step % 2].row_range(0, deal_.count(rank));
}

void GatherRing::pass_on(int step) {
  finish_hop(hop_, stream_);
  if (step + 1 < num_steps()) hop_ = begin_hop(comm_, rows(step), rows(step + 1), name_);
}

void GatherRing::finish() { finish_hop(hop_, stream_); }

ReduceRing::ReduceRing(Runtime& runtime, Stream& stream, const TensorParallel& tp, const Deal& deal, Tensor out,
                       std::string name)
    : runtime_(runtime),
      stream_(stream),
      comm_(*tp.comm),
      deal_(deal),
      out_(std::move(out)),
      received_(Tensor::empty(runtime.memory(), {deal.most(), out_.cols()}, out_.dtype())),
      name_(std::move(name)) {
  DF_ASSERT(out_.is_contiguous() && out_.rows() == deal.count(tp.rank()), "{}: {} rows of {}", name_, out_.rows(),
            deal.total);
  for (Tensor& summand : summands_) summand = Tensor::empty(runtime.memory(), received_.shape(), out_.dtype());
}

Tensor ReduceRing::summand(int step) const {
  return step + 1 == num_steps() ? out_ : summands_[step % 2].row_range(0, deal_.count(owner(step)));
}

void ReduceRing::add_received(int step) {
  finish_hop(hop_, stream_);
  Tensor sum = summand(step);
  if (step > 0 && sum.rows() > 0) add_into(runtime_, sum, received_.row_range(0, sum.rows()));
}

void ReduceRing::add(int step) {
  add_received(step);
  if (step + 1 == num_steps()) return;
  hop_ = begin_hop(comm_, summand(step), received_.row_range(0, deal_.count(owner(step + 1))), name_);
}

WorkPtr ReduceRing::last_addition() {
  return std::make_shared<LastAddition>(runtime_, std::exchange(hop_, nullptr), out_,
                                        received_.row_range(0, out_.rows()));
}

}  // namespace deepflow
