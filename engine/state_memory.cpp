#include "engine/state_memory.h"

#include "kernels/ops/pack_forms.h"
#include "optim/optimizer.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kMaster = 4, kGradient = 4;
constexpr int64_t kTravelling = 3;  // one bucket fills, two travel (parallel/gradient_buffers.h)
constexpr size_t kAhead = GatheredMasters::kAhead;

// Matrices that products of the compute dtype read. A router's are f32.
bool is_matrix(const Pack& pack) {
  return pack.role() == Role::kMatrix || pack.role() == Role::kExpert || pack.role() == Role::kHead;
}

// An embedding that is also the head is read in the model's last chunk as well; positions are not.
bool is_product(const StateInputs& in, const Pack& pack) {
  return is_matrix(pack) || (in.reads_embedding_as_head && pack.role() == Role::kEmbedding &&
                             pack.members.front()->spec.chunks.size() > 1);
}

int64_t pack_forms(const StateInputs& in, const Pack& pack) {
  if (!is_product(in, pack)) return 0;
  const bool int8 = in.products == ProductPrecision::kInt8 && pack.role() == Role::kMatrix;
  const auto bytes = [&](Form form) { return form_bytes(in.runtime, pack, in.store.compute, form); };
  return bytes(int8 ? Form::kForwardInt8 : Form::kForward) +
         (in.store.forms_kept == FormsKept::kAll ? bytes(int8 ? Form::kInputGradInt8 : Form::kInputGrad) : 0);
}

int64_t travelling(const std::vector<Bucket>& buckets) {
  int64_t largest = 0, held = 0;
  for (const Bucket& b : buckets) {
    const bool read_twice =
        std::any_of(b.packs.begin(), b.packs.end(), [](const Pack* p) { return p->uses_per_pass > 1; });
    if (!b.partial.empty() || read_twice)
      held += b.num_elements;
    else
      largest = std::max(largest, b.num_elements);
  }
  return kGradient * (kTravelling * largest + held);
}

// Buckets as a forward pass meets them.
std::vector<const Bucket*> in_order_of_use(const std::vector<Bucket>& buckets, const ParameterRegistry& registry) {
  std::vector<const Bucket*> order;
  for (const Pack& pack : registry.packs())
    for (const Bucket& b : buckets) {
      const bool has = std::find(b.packs.begin(), b.packs.end(), &pack) != b.packs.end();
      if (has && (order.empty() || order.back() != &b)) order.push_back(&b);
    }
  return order;
}

// The first of these buckets and those that come behind it, each once.
template <class F>
int64_t sum_ahead(const std::vector<const Bucket*>& order, size_t first, size_t count, F&& values) {
  int64_t sum = 0;
  for (size_t i = first; i < std::min(order.size(), first + count); ++i) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(first),
               at = order.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(begin, at, *at) == at) sum += values(**at);
  }
  return sum;
}

void count_gathered(StateMemory& s, const StateInputs& in, const std::vector<Bucket>& buckets) {
  const std::vector<const Bucket*> order = in_order_of_use(buckets, in.registry);
  const auto values = [&](const Bucket& b) {
    const bool rounded = std::all_of(b.packs.begin(), b.packs.end(), [](const Pack* p) { return is_matrix(*p); });
    return b.num_elements * (rounded ? static_cast<int64_t>(size_of(in.store.compute)) : kMaster);
  };
  for (size_t i = 0; i < order.size(); ++i) {
    int64_t bytes = sum_ahead(order, i, 1 + kAhead, values);
    for (const Pack* pack : order[i]->packs) bytes += pack_forms(in, *pack);
    s.gathered_in_step = std::max(s.gathered_in_step, bytes);
  }
  s.gathered_ahead = sum_ahead(order, 0, kAhead, values);
}

}  // namespace

StateMemory state_memory(const StateInputs& in) {
  StateMemory s;
  const std::vector<Bucket> buckets = buckets_of(in.registry, in.store);
  const ShardMap shards(buckets, shard_ranks(in.store, 1), in.store.unit);
  const PerDomain<int> places = shard_places(in.store);
  const std::vector<ShardPiece> pieces = optimized_pieces(shards.pieces(places));
  if (!in.optimizer_in_file) s.optimizer = optimizer_bytes(in.optim, pieces);
  if (const auto update = find_optimizer(in.optim.name).update_bytes)
    s.update = update(in.optim, in.store.compute, pieces);
  for (const Bucket& b : buckets) {
    const int64_t mine = shards.counts(b.id)[static_cast<size_t>(places[b.domain])];
    s.masters += kMaster * (is_cut(in.store, 3) ? mine : b.num_elements);
    s.gradients += kGradient * (is_cut(in.store, 2) ? mine : b.num_elements);
  }
  if (is_cut(in.store, 2)) s.travelling = travelling(buckets);
  if (is_cut(in.store, 3)) {
    count_gathered(s, in, buckets);
    return s;
  }
  for (const Pack& pack : in.registry.packs())
    if (pack.local) s.forms += pack_forms(in, pack);
  return s;
}

int64_t optimizer_bytes(const OptimOptions& optim, const std::vector<ShardPiece>& pieces) {
  const OptimizerEntry& entry = find_optimizer(optim.name);
  int64_t bytes = 0;
  for (const ShardPiece& piece : pieces) bytes += entry.state_bytes(optim, piece);
  return bytes;
}

}  // namespace deepflow
