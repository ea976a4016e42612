#include "parallel/self_communicator.h"

#include "core/error.h"
#include "parallel/collective_plan.h"

#include <cstring>
#include <utility>

namespace deepflow {
namespace {

class DoneWork final : public Work {
 public:
  void wait(Stream&) override {}
  void wait_host() override {}
};

WorkPtr done() {
  static const WorkPtr work = std::make_shared<DoneWork>();
  return work;
}

WorkPtr copy(const Tensor& in, const Tensor& out) {
  DF_ASSERT(in.is_contiguous() && out.is_contiguous() && in.dtype() == out.dtype());
  DF_ASSERT(in.num_elements() == out.num_elements(), "{} into {} elements", in.num_elements(), out.num_elements());
  if (in.raw() != out.raw() && in.num_elements() > 0) std::memmove(out.raw(), in.raw(), in.num_bytes());
  return done();
}

class SelfCommunicator final : public Communicator {
 public:
  explicit SelfCommunicator(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  int rank() const override { return 0; }
  int size() const override { return 1; }

  WorkPtr all_reduce(Tensor tensor, ReduceOp, std::string_view) override {
    DF_ASSERT(is_reducible(tensor.dtype()));
    return done();
  }
  WorkPtr reduce_scatter(Tensor in, Tensor out, Counts counts, std::string_view) override {
    DF_ASSERT(counts.size() == 1 && counts[0] == in.num_elements() && is_reducible(in.dtype()));
    return copy(in, out);
  }
  WorkPtr all_gather(Tensor in, Tensor out, Counts counts, std::string_view) override {
    DF_ASSERT(counts.size() == 1 && counts[0] == in.num_elements());
    return copy(in, out);
  }
  WorkPtr all_to_all(Tensor in, Counts send, Tensor out, Counts recv, std::string_view) override {
    DF_ASSERT(send.size() == 1 && recv.size() == 1 && send[0] == in.num_elements() && recv[0] == send[0]);
    return copy(in, out);
  }
  WorkPtr batch(std::span<const PointToPoint> messages, std::string_view) override {
    for (const PointToPoint& m : messages) DF_ASSERT(m.peer == 0 && m.value.is_contiguous());
    StagingPool unused;
    plan_batch({0, 1, {}}, {messages.begin(), messages.end()}).piece(0, unused);
    return done();
  }
  WorkPtr broadcast(Tensor, int root, std::string_view) override {
    DF_ASSERT(root == 0);
    return done();
  }
  WorkPtr barrier(std::string_view) override { return done(); }
  std::unique_ptr<Communicator> duplicate(std::string_view purpose) override {
    return make_self_communicator(std::string(purpose));
  }
  std::unique_ptr<Communicator> split(int colour, int, std::string_view purpose) override {
    DF_ASSERT(colour >= 0);
    return make_self_communicator(std::string(purpose));
  }
  CommBytes bytes() const override { return {}; }

 private:
  const std::string name_;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator(std::string name) {
  return std::make_unique<SelfCommunicator>(std::move(name));
}

}  // namespace deepflow
