#include "parallel/bucket.h"

#include "core/error.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace deepflow {
namespace {

constexpr int64_t kAlignment = 64;

// Chunks that read a pack, its domain, where the gradients of its members are partial, and whether products read it.
using Family = std::tuple<std::set<int>, GradientDomain, std::set<Communicator*>, bool>;

bool is_read_by_products(Role role) { return role == Role::kMatrix || role == Role::kExpert || role == Role::kHead; }

Family family_of(const Pack& pack, const GradientDomains* domains, bool matrices_apart) {
  const std::vector<int>& chunks = pack.members.front()->spec.chunks;
  std::set<Communicator*> partial;
  if (domains)
    for (const Parameter* p : pack.members) partial.insert(domains->partial(*p));
  const GradientDomain domain = domains ? domains->of(pack) : GradientDomain::kDense;
  return {{chunks.begin(), chunks.end()}, domain, partial, matrices_apart && is_read_by_products(pack.role())};
}

// `offset`: of the pack, which is the last one so far.
void add_partial_ranges(Bucket& bucket, const Pack& pack, int64_t offset, const GradientDomains& domains) {
  Communicator* previous = nullptr;  // of the parameter before, with nothing but zeros in between
  if (bucket.packs.size() > 1) {
    const Parameter& last = *bucket.packs[bucket.packs.size() - 2]->members.back();
    if (offset - bucket.offset_of(last) - last.local_shape.num_elements() < kAlignment)
      previous = domains.partial(last);
  }
  for (const Parameter* p : pack.members) {
    Communicator* comm = domains.partial(*p);
    const int64_t begin = offset + p->pack_offset, end = begin + p->local_shape.num_elements();
    if (comm && comm == previous)
      bucket.partial.back().end = end;
    else if (comm)
      bucket.partial.push_back({begin, end, comm});
    previous = comm;
  }
}

}  // namespace

int64_t Bucket::offset_of(const Parameter& p) const {
  const auto it = std::find(packs.begin(), packs.end(), p.pack);
  DF_ASSERT(it != packs.end(), "{} is not in bucket {}", p.spec.name, id);
  return offsets[static_cast<size_t>(it - packs.begin())] + p.pack_offset;
}

std::vector<Bucket> make_buckets(ParameterRegistry& registry, int64_t bucket_elements, const GradientDomains* domains,
                                 bool matrices_apart) {
  std::map<Family, std::vector<Bucket>> families;
  auto& packs = registry.packs();
  for (auto pack = packs.rbegin(); pack != packs.rend(); ++pack) {
    if (!pack->local) continue;
    const Family family = family_of(*pack, domains, matrices_apart);
    std::vector<Bucket>& buckets = families[family];
    const int64_t limit = buckets.size() <= 1 ? bucket_elements / 4 : bucket_elements;
    if (buckets.empty() || buckets.back().num_elements + pack->num_elements() > limit) buckets.emplace_back();
    Bucket& bucket = buckets.back();
    bucket.domain = std::get<GradientDomain>(family);
    bucket.packs.push_back(&*pack);
    bucket.offsets.push_back(bucket.num_elements);
    if (domains) add_partial_ranges(bucket, *pack, bucket.num_elements, *domains);
    bucket.num_elements += (pack->num_elements() + kAlignment - 1) / kAlignment * kAlignment;
  }
  std::vector<Bucket> result;
  for (auto& [family, buckets] : families)
    for (Bucket& bucket : buckets) result.push_back(std::move(bucket));
  std::sort(result.begin(), result.end(),
            [](const Bucket& a, const Bucket& b) { return a.packs.back()->id > b.packs.back()->id; });
  for (size_t i = 0; i < result.size(); ++i) result[i].id = static_cast<int>(i);
  return result;
}

}  // namespace deepflow
