#include "parallel/mpi_communicator.h"

#include "core/error.h"

#include <numeric>
#include <utility>

namespace deepflow {
namespace {

int64_t total(Counts counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }
std::vector<int64_t> copy_of(Counts counts) { return {counts.begin(), counts.end()}; }

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MpiThread& thread, std::shared_ptr<MpiQueue> queue) : thread_(thread), queue_(std::move(queue)) {}
  const std::string& name() const override { return queue_->name(); }
  int rank() const override { return queue_->rank(); }
  int size() const override { return queue_->size(); }
  CommBytes bytes() const override { return queue_->bytes(); }

  WorkPtr all_reduce(Tensor tensor, ReduceOp op, std::string_view name) override;
  WorkPtr reduce_scatter(Tensor in, Tensor out, Counts counts, std::string_view name) override;
  WorkPtr all_gather(Tensor in, Tensor out, Counts counts, std::string_view name) override;
  WorkPtr all_to_all(Tensor in, Counts send, Tensor out, Counts recv, std::string_view name) override;
  WorkPtr batch(std::span<const PointToPoint> messages, std::string_view name) override;
  WorkPtr broadcast(Tensor tensor, int root, std::string_view name) override;
  WorkPtr barrier(std::string_view name) override;
  std::unique_ptr<Communicator> duplicate(std::string_view purpose) override { return split(0, 0, purpose); }
  std::unique_ptr<Communicator> split(int colour, int key, std::string_view purpose) override;

 private:
  Group group() const { return {rank(), size(), queue_->options().limits}; }
  void check(const Tensor& tensor) const;
  // What every other member must say as well; empty when calls are not compared.
  std::vector<HeaderMessage> headers(CallHeader header) const;
  WorkPtr run(CommKind kind, std::string_view name, int64_t bytes, Plan plan, std::vector<Tensor> tensors,
              std::vector<HeaderMessage> headers) {
    return queue_->enqueue({kind, name, bytes, {std::move(plan), std::move(tensors), {}}, std::move(headers)});
  }

  MpiThread& thread_;
  const std::shared_ptr<MpiQueue> queue_;
};

void MpiCommunicator::check(const Tensor& tensor) const {
  DF_ASSERT(tensor.is_contiguous() && tensor.device().is_cpu(), "{} on {}, ld {}", tensor.shape().to_string(),
            tensor.device().to_string(), tensor.ld());
}

std::vector<HeaderMessage> MpiCommunicator::headers(CallHeader header) const {
  std::vector<HeaderMessage> list;
  if (!queue_->options().check_collectives) return list;
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    list.push_back({r, true, header});
    list.push_back({r, false, header});
  }
  return list;
}

WorkPtr MpiCommunicator::all_reduce(Tensor tensor, ReduceOp op, std::string_view name) {
  check(tensor);
  DF_ASSERT(is_reducible(tensor.dtype()));
  const auto bytes = static_cast<int64_t>(tensor.num_bytes());
  CallHeader header = call_header(CommKind::kAllReduce, name, tensor.dtype(), bytes);
  header.op = op;
  return run(CommKind::kAllReduce, name, bytes, plan_all_reduce(group(), tensor, op), {tensor}, headers(header));
}

WorkPtr MpiCommunicator::reduce_scatter(Tensor in, Tensor out, Counts counts, std::string_view name) {
  check(in);
  check(out);
  DF_ASSERT(is_reducible(in.dtype()) && in.dtype() == out.dtype() && static_cast<int>(counts.size()) == size());
  DF_ASSERT(total(counts) == in.num_elements() && counts[static_cast<size_t>(rank())] == out.num_elements());
  const auto bytes = static_cast<int64_t>(in.num_bytes());
  CallHeader header = call_header(CommKind::kReduceScatter, name, in.dtype(), bytes);
  header.counts = hash_counts(counts);
  return run(CommKind::kReduceScatter, name, bytes, plan_reduce_scatter(group(), in, out, copy_of(counts)), {in, out},
             headers(header));
}

WorkPtr MpiCommunicator::all_gather(Tensor in, Tensor out, Counts counts, std::string_view name) {
  check(in);
  check(out);
  DF_ASSERT(in.dtype() == out.dtype() && static_cast<int>(counts.size()) == size());
  DF_ASSERT(total(counts) == out.num_elements() && counts[static_cast<size_t>(rank())] == in.num_elements());
  const auto bytes = static_cast<int64_t>(out.num_bytes());
  CallHeader header = call_header(CommKind::kAllGather, name, in.dtype(), bytes);
  header.counts = hash_counts(counts);
  return run(CommKind::kAllGather, name, bytes, plan_all_gather(group(), in, out, copy_of(counts)), {in, out},
             headers(header));
}

WorkPtr MpiCommunicator::all_to_all(Tensor in, Counts send, Tensor out, Counts recv, std::string_view name) {
  check(in);
  check(out);
  DF_ASSERT(in.dtype() == out.dtype() && static_cast<int>(send.size()) == size() && recv.size() == send.size());
  DF_ASSERT(total(send) == in.num_elements() && total(recv) == out.num_elements());
  DF_ASSERT(send[static_cast<size_t>(rank())] == recv[static_cast<size_t>(rank())]);
  const auto e = static_cast<int64_t>(size_of(in.dtype()));
  std::vector<HeaderMessage> list = headers(call_header(CommKind::kAllToAll, name, in.dtype(), 0));
  for (HeaderMessage& h : list) h.mine.bytes = (h.send ? send : recv)[static_cast<size_t>(h.peer)] * e;
  return run(CommKind::kAllToAll, name, static_cast<int64_t>(in.num_bytes()),
             plan_all_to_all(group(), in, copy_of(send), out, copy_of(recv)), {in, out}, std::move(list));
}

WorkPtr MpiCommunicator::batch(std::span<const PointToPoint> messages, std::string_view name) {
  std::vector<Tensor> tensors;
  std::vector<HeaderMessage> list;
  int64_t bytes = 0;
  for (const PointToPoint& m : messages) {
    check(m.value);
    DF_ASSERT(m.peer >= 0 && m.peer < size(), "peer {} of {}", m.peer, size());
    tensors.push_back(m.value);
    const auto n = static_cast<int64_t>(m.value.num_bytes());
    bytes += n;
    if (queue_->options().check_collectives && m.peer != rank())
      list.push_back({m.peer, m.send, call_header(CommKind::kBatch, name, m.value.dtype(), n)});
  }
  return run(CommKind::kBatch, name, bytes, plan_batch(group(), {messages.begin(), messages.end()}), std::move(tensors),
             std::move(list));
}

WorkPtr MpiCommunicator::broadcast(Tensor tensor, int root, std::string_view name) {
  check(tensor);
  DF_ASSERT(root >= 0 && root < size());
  const auto bytes = static_cast<int64_t>(tensor.num_bytes());
  CallHeader header = call_header(CommKind::kBroadcast, name, tensor.dtype(), bytes);
  header.root = root;
  return run(CommKind::kBroadcast, name, bytes, plan_broadcast(group(), tensor, root), {tensor}, headers(header));
}

WorkPtr MpiCommunicator::barrier(std::string_view name) {
  return run(CommKind::kBarrier, name, 0, plan_barrier(group()), {},
             headers(call_header(CommKind::kBarrier, name, DType::kU8, 0)));
}

// MPI_Comm_split blocks, so it is called when a barrier has shown that every member is about to call it: then no member
// can be waiting for another queue of this one.
std::unique_ptr<Communicator> MpiCommunicator::split(int colour, int key, std::string_view purpose) {
  DF_ASSERT(colour >= 0);
  std::shared_ptr<MpiQueue> made;
  const auto make = [&] {
    MpiQueue::Members members{MPI_COMM_NULL, 0, {}};
    const MPI_Comm parent = queue_->members().comm;
    check_mpi(MPI_Comm_split(parent, colour, key, &members.comm), "MPI_Comm_split");
    MPI_Comm_set_errhandler(members.comm, MPI_ERRORS_RETURN);
    int n = 0;
    MPI_Comm_rank(members.comm, &members.rank);
    MPI_Comm_size(members.comm, &n);
    std::vector<int> ranks(static_cast<size_t>(n));
    std::iota(ranks.begin(), ranks.end(), 0);
    members.world_ranks.resize(ranks.size());
    MPI_Group here, world;
    MPI_Comm_group(members.comm, &here);
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_translate_ranks(here, n, ranks.data(), world, members.world_ranks.data());
    MPI_Group_free(&here);
    MPI_Group_free(&world);
    made = thread_.add_queue(std::string(purpose), std::move(members));
  };
  const auto operation = queue_->enqueue({CommKind::kSplit,
                                          purpose,
                                          0,
                                          {plan_barrier(group()), {}, make},
                                          headers(call_header(CommKind::kSplit, purpose, DType::kU8, 0))});
  operation->wait_host();
  return make_mpi_communicator(thread_, std::move(made));
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MpiThread& thread, std::shared_ptr<MpiQueue> queue) {
  return std::make_unique<MpiCommunicator>(thread, std::move(queue));
}

}  // namespace deepflow
