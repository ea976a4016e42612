#pragma once

#include "core/tensor.h"
#include "core/work.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

enum class ReduceOp : uint8_t { kSum, kMax };

// Elements that belong to member 0, 1, ... of a communicator, one after another; zeros are fine.
using Counts = std::span<const int64_t>;

struct PointToPoint {
  int peer;
  bool send;  // false: receive into `value`
  Tensor value;
};

struct CommBytes {  // payload that crossed between processes
  int64_t sent = 0, received = 0;
};

// A group of ranks that exchange tensors. Operations are enqueued and run in the background, in the order of the calls
// on each communicator and independently of every other communicator, so two communicators may be used in opposite
// order on different ranks. Several operations of one communicator may be in flight at once.
//
// Collectives: every member makes the same calls in the same order, with the same counts. Tensors are contiguous and
// must not be touched until the returned Work has been waited for; the operation keeps them alive. A Work may be
// dropped: the operation runs all the same. `name` is what errors, traces and the flight recorder call the operation.
//
// Sums and maxima run over members 0, 1, 2, ... in that order, accumulated in f32 for floating dtypes (i32 and i64 in
// i64) and rounded once: all members get the same bits, run after run, whatever the timing. A NaN survives a maximum.
//
// Errors arrive as CommError from Work::wait and wait_host: a member that is missing for longer than the timeout,
// calls that do not match (when they are checked), a failure of the transport. After one the communicator is unusable.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual const std::string& name() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  virtual WorkPtr all_reduce(Tensor tensor, ReduceOp op, std::string_view name) = 0;  // in place
  // Sums `in` (all counts together); member r gets its part in `out`, which may be that very part of `in`.
  virtual WorkPtr reduce_scatter(Tensor in, Tensor out, Counts counts, std::string_view name) = 0;
  // `in` has counts[rank()] elements, `out` all of them; `in` may be its own part of `out`.
  virtual WorkPtr all_gather(Tensor in, Tensor out, Counts counts, std::string_view name) = 0;
  // send[r] elements of `in` go to member r; recv[r] elements of `out` come from it.
  virtual WorkPtr all_to_all(Tensor in, Counts send, Tensor out, Counts recv, std::string_view name) = 0;
  // All messages at once, so that no order of sends and receives can deadlock. The k-th send of a member to another
  // meets the k-th receive there. Only the peers named take part.
  virtual WorkPtr batch(std::span<const PointToPoint> messages, std::string_view name) = 0;
  virtual WorkPtr broadcast(Tensor tensor, int root, std::string_view name) = 0;
  virtual WorkPtr barrier(std::string_view name) = 0;

  // A communicator of the same members with a queue of its own (checkpoint, metrics). Collective, and done when it
  // returns. Only one thread of a process may make communicators at a time.
  virtual std::unique_ptr<Communicator> duplicate(std::string_view purpose) = 0;
  // One communicator per colour, ranked by (key, rank here). Collective, as duplicate; colours are not negative.
  virtual std::unique_ptr<Communicator> split(int colour, int key, std::string_view purpose) = 0;

  virtual CommBytes bytes() const = 0;  // so far
};

// Small values on the host: metrics, counts, texts. They return when the result is there. Sums run in rank order.
std::vector<double> sum_doubles(Communicator& comm, std::span<const double> values, std::string_view name);
std::vector<double> max_doubles(Communicator& comm, std::span<const double> values, std::string_view name);
std::vector<int64_t> sum_integers(Communicator& comm, std::span<const int64_t> values, std::string_view name);
std::vector<std::string> gather_texts(Communicator& comm, const std::string& text, std::string_view name);
std::string broadcast_text(Communicator& comm, const std::string& text, int root, std::string_view name);

}  // namespace deepflow
