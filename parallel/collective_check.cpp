#include "parallel/collective_check.h"

#include "core/error.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

namespace deepflow {
namespace {

static_assert(std::is_trivially_copyable_v<CallHeader> && std::has_unique_object_representations_v<CallHeader>);

std::string describe(const CallHeader& h) {
  std::string text = name_of(h.kind);
  if (h.kind == CommKind::kAllReduce) text += h.op == ReduceOp::kSum ? " sum" : " max";
  if (h.kind == CommKind::kBroadcast) text += fmt::format(" from {}", h.root);
  return text + fmt::format(" `{}` of {} bytes {}", h.name.data(), h.bytes, name_of(h.dtype));
}

bool equal(const CallHeader& a, CallHeader b) {
  if (a.kind == CommKind::kBatch) b.name = a.name;  // sender and receiver may call it by two names
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

struct Exchange {
  std::vector<HeaderMessage> headers;
  std::vector<CallHeader> wire;
};

void compare(const Exchange& x, int rank, const std::vector<int>& world_ranks) {
  for (size_t i = 0; i < x.headers.size(); ++i) {
    const HeaderMessage& h = x.headers[i];
    if (h.send || equal(h.mine, x.wire[i])) continue;
    const char* counts = describe(h.mine) == describe(x.wire[i]) ? " with other counts" : "";
    throw CommError("rank {} calls {}, rank {} calls {}{}; the ranks do not run the same program or recipe",
                    world_ranks[static_cast<size_t>(rank)], describe(h.mine), world_ranks[static_cast<size_t>(h.peer)],
                    describe(x.wire[i]), counts);
  }
}

}  // namespace

CallHeader call_header(CommKind kind, std::string_view name, DType dtype, int64_t bytes) {
  CallHeader header;
  std::memset(&header, 0, sizeof(header));
  header.kind = kind;
  header.dtype = dtype;
  header.bytes = bytes;
  std::copy_n(name.begin(), std::min(name.size(), header.name.size() - 1), header.name.begin());
  return header;
}

uint64_t hash_counts(Counts counts) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const int64_t count : counts) hash = (hash ^ static_cast<uint64_t>(count)) * 0x100000001b3u;
  return hash;
}

Plan plan_checked(Plan plan, std::vector<HeaderMessage> headers, int rank, std::vector<int> world_ranks) {
  const auto exchange = std::make_shared<Exchange>();
  for (const HeaderMessage& h : headers) exchange->wire.push_back(h.mine);
  exchange->headers = std::move(headers);
  const auto first = [exchange, rank, world_ranks = std::move(world_ranks)] {
    Piece piece;
    for (size_t i = 0; i < exchange->headers.size(); ++i)
      piece.first.push_back({exchange->headers[i].peer, exchange->headers[i].send, &exchange->wire[i],
                             static_cast<int64_t>(sizeof(CallHeader))});
    piece.middle = [exchange, rank, world_ranks] { compare(*exchange, rank, world_ranks); };
    piece.alone = true;
    return piece;
  };
  const auto make = [first, inner = std::move(plan.piece)](int64_t index, StagingPool& pool) {
    return index == 0 ? first() : inner(index - 1, pool);
  };
  return {plan.num_pieces + 1, make};
}

}  // namespace deepflow
