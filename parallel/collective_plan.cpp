#include "parallel/collective_plan.h"

#include "core/error.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

namespace deepflow {
namespace {

struct Range {  // elements
  int64_t begin = 0, count = 0;
};

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }
int64_t element_bytes(const Tensor& t) { return static_cast<int64_t>(size_of(t.dtype())); }
char* bytes_of(const Tensor& t) { return static_cast<char*>(t.raw()); }

// The peers, each member beginning with another one, so that they do not all send to the same.
template <class F>
void for_peers(const Group& group, F&& f) {
  for (int i = 1; i < group.size; ++i) f((group.rank + i) % group.size);
}

void add(std::vector<Message>& list, int peer, bool send, char* data, int64_t bytes) {
  if (bytes > 0) list.push_back({peer, send, data, bytes});
}

// Elements of one slice when a piece consists of `slices` of them; a multiple of 16.
int64_t slice_elements(const Group& group, int64_t total, int64_t slices, int64_t bytes_each) {
  const int64_t staging = group.limits.staging_bytes / std::max(1, group.size - 1);
  const int64_t most = std::max<int64_t>(16, std::min(group.limits.piece_bytes, staging) / bytes_each);
  const int64_t pieces = divide_up(total, most * slices);
  return round_up(divide_up(divide_up(total, pieces), slices), 16);
}

// Part `piece` of member r's block when every block is walked in steps.
Range step_of(const std::vector<int64_t>& counts, const std::vector<int64_t>& begins, int r, int64_t piece,
              int64_t step) {
  const auto i = static_cast<size_t>(r);
  const int64_t first = std::min(piece * step, counts[i]);
  return {begins[i] + first, std::min(step, counts[i] - first)};
}

std::vector<int64_t> begins_of(const std::vector<int64_t>& counts) {
  std::vector<int64_t> begins(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), int64_t{0});
  return begins;
}

int64_t max_of(const std::vector<int64_t>& counts) { return *std::max_element(counts.begin(), counts.end()); }

// Receives every peer's `count` elements, to be added to what lies at `own` and stored at `target`.
void add_reduction(const Group& group, StagingPool& pool, char* own, char* target, int64_t count, DType dtype,
                   ReduceOp op, Piece& piece) {
  if (count == 0) return;
  const int64_t bytes = count * static_cast<int64_t>(size_of(dtype)), stride = round_up(bytes, 64);
  piece.staging = pool.take(static_cast<size_t>(stride * (group.size - 1)));
  std::vector<const void*> sources;
  char* next = piece.staging.get();
  for (int r = 0; r < group.size; ++r) {
    sources.push_back(r == group.rank ? own : next);
    if (r != group.rank) next += stride;
  }
  for_peers(group, [&](int r) {
    add(piece.first, r, false, static_cast<char*>(const_cast<void*>(sources[static_cast<size_t>(r)])), bytes);
  });
  piece.middle = [sources = std::move(sources), target, count, dtype, op] {
    reduce_in_order(sources, target, count, dtype, op);
  };
}

}  // namespace

Plan plan_all_reduce(const Group& group, Tensor tensor, ReduceOp op) {
  const int64_t n = tensor.num_elements(), e = element_bytes(tensor);
  char* const data = bytes_of(tensor);
  const DType dtype = tensor.dtype();
  if (n == 0) return {};
  if (n * e * group.size <= group.limits.one_shot_bytes)
    return {1, [=](int64_t, StagingPool& pool) {
              Piece piece;
              for_peers(group, [&](int r) { add(piece.first, r, true, data, n * e); });
              add_reduction(group, pool, data, data, n, dtype, op, piece);
              return piece;
            }};
  const int64_t slice = slice_elements(group, n, group.size, e), per_piece = slice * group.size;
  const auto make = [=](int64_t index, StagingPool& pool) {
    const auto range = [&](int r) {
      const int64_t begin = std::min(index * per_piece + r * slice, n);
      return Range{begin, std::min(slice, n - begin)};
    };
    Piece piece;
    const Range mine = range(group.rank);
    char* const own = data + mine.begin * e;
    for_peers(group, [&](int r) { add(piece.first, r, true, data + range(r).begin * e, range(r).count * e); });
    add_reduction(group, pool, own, own, mine.count, dtype, op, piece);
    for_peers(group, [&](int r) {
      add(piece.second, r, true, own, mine.count * e);
      add(piece.second, r, false, data + range(r).begin * e, range(r).count * e);
    });
    return piece;
  };
  return {divide_up(n, per_piece), make};
}

Plan plan_reduce_scatter(const Group& group, Tensor in, Tensor out, std::vector<int64_t> counts) {
  const int64_t e = element_bytes(in), most = max_of(counts);
  if (most == 0) return {};
  const int64_t step = slice_elements(group, most, 1, e);
  const auto make = [=, from = bytes_of(in), to = bytes_of(out), dtype = in.dtype(), begins = begins_of(counts)](
                        int64_t index, StagingPool& pool) {
    Piece piece;
    for_peers(group, [&](int r) {
      const Range range = step_of(counts, begins, r, index, step);
      add(piece.first, r, true, from + range.begin * e, range.count * e);
    });
    const Range mine = step_of(counts, begins, group.rank, index, step);
    const int64_t begin = mine.begin - begins[static_cast<size_t>(group.rank)];
    add_reduction(group, pool, from + mine.begin * e, to + begin * e, mine.count, dtype, ReduceOp::kSum, piece);
    return piece;
  };
  return {divide_up(most, step), make};
}

Plan plan_all_gather(const Group& group, Tensor in, Tensor out, std::vector<int64_t> counts) {
  const int64_t e = element_bytes(in), step = std::max<int64_t>(1, group.limits.message_bytes / e);
  const int64_t most = max_of(counts);
  const auto make = [=, from = bytes_of(in), to = bytes_of(out), begins = begins_of(counts)](int64_t index,
                                                                                             StagingPool&) {
    Piece piece;
    const Range mine = step_of(counts, begins, group.rank, index, step);
    char* const own = from + (mine.begin - begins[static_cast<size_t>(group.rank)]) * e;
    char* const place = to + mine.begin * e;
    if (own != place && mine.count > 0) std::memcpy(place, own, static_cast<size_t>(mine.count * e));
    for_peers(group, [&](int r) {
      const Range range = step_of(counts, begins, r, index, step);
      add(piece.first, r, true, own, mine.count * e);
      add(piece.first, r, false, to + range.begin * e, range.count * e);
    });
    return piece;
  };
  return {divide_up(most, step), make};
}

Plan plan_all_to_all(const Group& group, Tensor in, std::vector<int64_t> send, Tensor out, std::vector<int64_t> recv) {
  const int64_t e = element_bytes(in), step = std::max<int64_t>(1, group.limits.message_bytes / e);
  const int64_t most = std::max(max_of(send), max_of(recv));
  const auto make = [=, from = bytes_of(in), to = bytes_of(out), send_begins = begins_of(send),
                     recv_begins = begins_of(recv)](int64_t index, StagingPool&) {
    Piece piece;
    const Range own = step_of(send, send_begins, group.rank, index, step);
    const Range place = step_of(recv, recv_begins, group.rank, index, step);
    if (own.count > 0) std::memcpy(to + place.begin * e, from + own.begin * e, static_cast<size_t>(own.count * e));
    for_peers(group, [&](int r) {
      const Range s = step_of(send, send_begins, r, index, step), t = step_of(recv, recv_begins, r, index, step);
      add(piece.first, r, true, from + s.begin * e, s.count * e);
      add(piece.first, r, false, to + t.begin * e, t.count * e);
    });
    return piece;
  };
  return {divide_up(most, step), make};
}

Plan plan_batch(const Group& group, const std::vector<PointToPoint>& messages) {
  std::vector<Message> list;
  std::vector<Message> to_self, from_self;
  for (const PointToPoint& m : messages) {
    const Message message{m.peer, m.send, m.value.raw(), static_cast<int64_t>(m.value.num_bytes())};
    (m.peer != group.rank ? list : m.send ? to_self : from_self).push_back(message);
  }
  DF_ASSERT(to_self.size() == from_self.size(), "{} messages to oneself, {} from oneself", to_self.size(),
            from_self.size());
  const auto make = [list = std::move(list), to_self = std::move(to_self), from_self = std::move(from_self)](
                        int64_t, StagingPool&) {
    for (size_t i = 0; i < to_self.size(); ++i) {
      DF_ASSERT(to_self[i].bytes == from_self[i].bytes);
      if (to_self[i].bytes > 0) std::memmove(from_self[i].data, to_self[i].data, static_cast<size_t>(to_self[i].bytes));
    }
    Piece piece;
    piece.first = list;
    return piece;
  };
  return {1, make};
}

Plan plan_broadcast(const Group& group, Tensor tensor, int root) {
  const int64_t n = tensor.num_elements(), e = element_bytes(tensor);
  char* const data = bytes_of(tensor);
  if (n == 0) return {};
  if (n * e * group.size <= group.limits.one_shot_bytes)
    return {1, [=](int64_t, StagingPool&) {
              Piece piece;
              if (group.rank != root)
                add(piece.first, root, false, data, n * e);
              else
                for_peers(group, [&](int r) { add(piece.first, r, true, data, n * e); });
              return piece;
            }};
  const int64_t slice = slice_elements(group, n, group.size, e), per_piece = slice * group.size;
  const auto make = [=](int64_t index, StagingPool&) {
    Piece piece;
    const auto put = [&](std::vector<Message>& list, int peer, bool send, int owner) {
      const int64_t begin = std::min(index * per_piece + owner * slice, n);
      add(list, peer, send, data + begin * e, std::min(slice, n - begin) * e);
    };
    if (group.rank == root) {
      for_peers(group, [&](int r) {
        put(piece.first, r, true, r);
        put(piece.first, r, true, root);
      });
      return piece;
    }
    put(piece.first, root, false, group.rank);
    put(piece.first, root, false, root);
    for_peers(group, [&](int r) {
      if (r == root) return;
      put(piece.second, r, true, group.rank);
      put(piece.second, r, false, r);
    });
    return piece;
  };
  return {divide_up(n, per_piece), make};
}

Plan plan_barrier(const Group& group) {
  return {1, [group](int64_t, StagingPool&) {
            Piece piece;
            for_peers(group, [&](int r) {
              piece.first.push_back({r, true, nullptr, 0});
              piece.first.push_back({r, false, nullptr, 0});
            });
            return piece;
          }};
}

}  // namespace deepflow
