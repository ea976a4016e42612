#include "parallel/mpi_operation.h"

#include "core/error.h"

#include <utility>

namespace deepflow {

MpiOperation::MpiOperation(FlightRecorder::Entry entry, Call call, std::shared_ptr<FlightRecorder> recorder,
                           std::shared_ptr<MpiSignal> signal)
    : entry_(std::move(entry)), call_(std::move(call)), recorder_(std::move(recorder)), signal_(std::move(signal)) {}

// Work on a CPU stream is done when it is enqueued, so the stream waits where the host does.
void MpiOperation::wait(Stream& stream) {
  DF_ASSERT(stream.device().is_cpu(), "MPI works on host memory");
  wait_host();
}

void MpiOperation::wait_host() {
  std::unique_lock lock(mutex_);
  if (!done_) {
    Trace* const trace = signal_->trace();
    const double begin = trace ? Trace::now_us() : 0;
    waited_since_.store(FlightRecorder::now(), std::memory_order_relaxed);
    signal_->begin_wait();
    settled_.wait(lock, [this] { return done_; });
    signal_->end_wait();
    if (trace) trace->add(entry_.name, SpanKind::kWaiting, begin, Trace::now_us());
  }
  const std::vector<Tensor> released = std::move(call_.tensors);
  call_.tensors.clear();
  lock.unlock();
  if (!error_.empty()) throw CommError("{}", error_);
}

std::string MpiOperation::describe() const {
  return fmt::format("`{}` {} #{}", entry_.name, name_of(entry_.kind), entry_.number);
}

Piece MpiOperation::piece(int64_t index, StagingPool& staging) const {
  return call_.plan.num_pieces == 0 ? Piece() : call_.plan.piece(index, staging);
}

void MpiOperation::begin() {
  begun_us_ = Trace::now_us();
  recorder_->mark(entry_.ticket, FlightRecorder::State::kBegun);
}

void MpiOperation::finish() {
  if (call_.on_done) call_.on_done();
  if (Trace* const trace = signal_->trace())
    trace->add(entry_.name, SpanKind::kCommunication, begun_us_, Trace::now_us());
  settle(FlightRecorder::State::kDone, "");
}

void MpiOperation::fail(const std::string& error) { settle(FlightRecorder::State::kFailed, error); }

void MpiOperation::settle(FlightRecorder::State state, std::string error) {
  recorder_->mark(entry_.ticket, state);
  const std::lock_guard lock(mutex_);
  done_ = true;
  error_ = std::move(error);
  settled_.notify_all();
}

}  // namespace deepflow
