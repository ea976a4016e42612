#include "parallel/bucket.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kAlignment = 64;

}  // namespace

int64_t Bucket::offset_of(const Parameter& p) const {
  const auto it = std::find(packs.begin(), packs.end(), p.pack);
  DF_ASSERT(it != packs.end(), "{} is not in bucket {}", p.spec.name, id);
  return offsets[static_cast<size_t>(it - packs.begin())] + p.pack_offset;
}

std::vector<Bucket> make_buckets(ParameterRegistry& registry, int64_t bucket_elements) {
  std::vector<Bucket> buckets;
  auto& packs = registry.packs();
  for (auto pack = packs.rbegin(); pack != packs.rend(); ++pack) {
    const int64_t limit = buckets.size() <= 1 ? bucket_elements / 4 : bucket_elements;
    if (buckets.empty() || buckets.back().num_elements + pack->num_elements() > limit) {
      buckets.emplace_back();
      buckets.back().id = static_cast<int>(buckets.size()) - 1;
    }
    Bucket& bucket = buckets.back();
    bucket.packs.push_back(&*pack);
    bucket.offsets.push_back(bucket.num_elements);
    bucket.num_elements += (pack->num_elements() + kAlignment - 1) / kAlignment * kAlignment;
  }
  return buckets;
}

}  // namespace deepflow
