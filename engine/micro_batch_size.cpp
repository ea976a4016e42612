#include "engine/micro_batch_size.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kRowsOfAPass = 8192;
constexpr int64_t kLogitElementsOfAPass = int64_t{256} << 20;
constexpr int64_t kPassesAStage = 4;

int64_t divisor_up_to(int64_t limit, int64_t n) {
  int64_t d = std::min(limit, n);
  while (n % d != 0) --d;
  return d;
}

}  // namespace

int64_t choose_micro_batch(const TrainOptions& train, int num_ranks, int64_t sequence, int64_t vocabulary,
                           int num_stages) {
  const int64_t share = train.global_batch / num_ranks;
  if (train.global_batch % num_ranks != 0)
    throw ConfigError("train.global_batch: {} sequences do not divide over {} data-parallel ranks; use {} or {}",
                      train.global_batch, num_ranks, std::max<int64_t>(share, 1) * num_ranks, (share + 1) * num_ranks);
  if (train.micro_batch) {
    if (share % *train.micro_batch == 0) return *train.micro_batch;
    throw ConfigError(
        "train.micro_batch: {} does not divide the {} sequences of a rank (train.global_batch {} over {} data-parallel "
        "ranks); the next below is {}",
        *train.micro_batch, share, train.global_batch, num_ranks, divisor_up_to(*train.micro_batch, share));
  }
  const int64_t rows = std::min(kRowsOfAPass, kLogitElementsOfAPass / vocabulary);
  const int64_t passes = num_stages > 1 ? kPassesAStage * num_stages : 1;
  for (int64_t m = share; m > 1; --m)
    if (share % m == 0 && m * sequence <= rows && share / m >= passes && (share / m) % num_stages == 0) return m;
  return 1;
}

}  // namespace deepflow
