#include "engine/state_memory.h"

#include "optim/optimizer.h"
#include "parallel/bucket.h"

#include <algorithm>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kMaster = 4, kGradient = 4;
constexpr int64_t kTravelling = 3;  // one bucket fills, two travel (parallel/gradient_buffers.h)
constexpr size_t kAhead = 2;        // parallel/gathered_masters.h

bool is_product(const Pack& pack) {
  const bool head = pack.role() == Role::kEmbedding && pack.uses_per_pass > 1;
  return head || pack.role() == Role::kMatrix || pack.role() == Role::kExpert || pack.role() == Role::kHead;
}

// f16 is computed in f32 (kernels/ops/matmul.h).
int64_t form_bytes(DType compute) {
  return static_cast<int64_t>(size_of(compute == DType::kF16 ? DType::kF32 : compute));
}

int64_t divided(int64_t n, int ranks) { return (n + ranks - 1) / ranks; }

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

void count_gathered(StateShape& s, const std::vector<Bucket>& buckets, const ParameterRegistry& registry) {
  const std::vector<const Bucket*> order = in_order_of_use(buckets, registry);
  const auto values = [&](const Bucket& b) {
    return b.num_elements * (is_product(*b.packs.front()) ? static_cast<int64_t>(size_of(s.compute)) : kMaster);
  };
  for (size_t i = 0; i < order.size(); ++i) {
    int64_t sum = 0;
    for (size_t j = i; j < std::min(order.size(), i + 1 + kAhead); ++j)
      if (std::find(order.begin() + static_cast<std::ptrdiff_t>(i), order.begin() + static_cast<std::ptrdiff_t>(j),
                    order[j]) == order.begin() + static_cast<std::ptrdiff_t>(j))
        sum += values(*order[j]);
    const int64_t forms = is_product(*order[i]->packs.front()) ? form_bytes(s.compute) * order[i]->num_elements : 0;
    s.gathered_in_step = std::max(s.gathered_in_step, sum + forms);
  }
  for (size_t i = 0; i < std::min(order.size(), kAhead); ++i) s.gathered_ahead += values(*order[i]);
}

}  // namespace

void count_parameters(StateShape& s, ParameterRegistry& registry, const GradientDomains* domains,
                      int64_t bucket_elements) {
  for (const Pack& pack : registry.packs())
    if (pack.local) {
      s.elements += pack.num_elements();
      if (is_product(pack)) s.product_elements += pack.num_elements();
    }
  if (s.zero < 2 || s.shards == 1) return;
  const bool gathers = s.zero == 3;
  const std::vector<Bucket> buckets =
      make_buckets(registry, bucket_elements, domains, gathers && s.compute != DType::kF32);
  s.travelling_bytes = travelling(buckets);
  if (gathers) count_gathered(s, buckets, registry);
}

int64_t optimizer_bytes(const OptimOptions& optim, const ParameterRegistry& registry) {
  const OptimizerEntry& entry = find_optimizer(optim.name);
  int64_t bytes = 0;
  for (const Parameter& p : registry.parameters())
    if (p.pack->local) bytes += entry.state_bytes(optim, p);
  return bytes;
}

int64_t state_bytes(const StateShape& s) {
  const auto share = [&](int level) { return divided(s.elements, s.zero >= level ? s.shards : 1); };
  const int64_t forms = form_bytes(s.compute) * (s.forms == FormsKept::kAll ? 2 : 1) * s.product_elements;
  const int64_t gradients = s.gradients == GradientMemory::kStays ? kGradient * share(2) : 0;
  const bool gathers = s.zero == 3 && s.shards > 1;
  const int64_t optimizer = divided(s.optimizer, s.zero >= 1 ? s.shards : 1);
  return optimizer + kMaster * share(3) + gradients + (gathers ? s.gathered_ahead : forms);
}

int64_t state_in_step(const StateShape& s) { return state_bytes(s) - s.gathered_ahead + s.gathered_in_step; }

}  // namespace deepflow
