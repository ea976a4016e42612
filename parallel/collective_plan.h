#pragma once

#include "parallel/collective_limits.h"
#include "parallel/collective_reduce.h"
#include "parallel/collective_staging.h"
#include "parallel/communicator.h"

#include <functional>
#include <vector>

namespace deepflow {

struct Message {
  int peer;
  bool send;
  void* data;
  int64_t bytes;
};

// A part of a collective: messages, then local work, then messages that need its result.
struct Piece {
  std::vector<Message> first;
  std::function<void()> middle;  // may be empty; an exception fails the collective
  std::vector<Message> second;
  StagingPool::Buffer staging;
  bool alone = false;  // nothing behind it begins before it is done
};

// What one member does in a collective, as values, with no transport: pieces are made when their turn comes, and
// several are in flight at once. Messages between two members meet in the order of pieces and of the lists.
struct Plan {
  int64_t num_pieces = 0;
  std::function<Piece(int64_t index, StagingPool& staging)> piece;
};

struct Group {
  int rank, size;
  CollectiveLimits limits;
};

// Sums by owners: every slice is sent to one member, added there in rank order, and for all_reduce sent back to all.
Plan plan_all_reduce(const Group& group, Tensor tensor, ReduceOp op);
Plan plan_reduce_scatter(const Group& group, Tensor in, Tensor out, std::vector<int64_t> counts);
Plan plan_all_gather(const Group& group, Tensor in, Tensor out, std::vector<int64_t> counts);
Plan plan_all_to_all(const Group& group, Tensor in, std::vector<int64_t> send, Tensor out, std::vector<int64_t> recv);
Plan plan_batch(const Group& group, const std::vector<PointToPoint>& messages);
// Small ones go from the root to all; large ones are dealt out in slices which the members then pass on.
Plan plan_broadcast(const Group& group, Tensor tensor, int root);
Plan plan_barrier(const Group& group);  // an empty message from everybody to everybody

}  // namespace deepflow
