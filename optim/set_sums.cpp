#include "optim/set_sums.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {

SetSums::SetSums(const std::vector<MatrixSet>& sets, const OptimizerDomain& domain) : sets_(sets) {
  if (domain.domains) comm_ = domain.domains->world().duplicate("sums of the optimizer");
}

SetSums::Mail SetSums::swap(const Mail& sent, const std::map<int, int64_t>& received, const char* name) {
  Mail arrived;
  std::vector<PointToPoint> messages;
  const auto tensor = [](const Numbers& n) {
    return Tensor::wrap(const_cast<float*>(n.data()), {static_cast<int64_t>(n.size())}, DType::kF32);
  };
  for (const auto& [rank, numbers] : sent) messages.push_back({rank, true, tensor(numbers)});
  for (const auto& [rank, count] : received) {
    arrived[rank].resize(static_cast<size_t>(count));
    messages.push_back({rank, false, tensor(arrived[rank])});
  }
  if (!messages.empty()) comm_->batch(messages, name)->wait_host();
  return arrived;
}

std::vector<SetSums::Numbers> SetSums::operator()(const std::vector<Numbers>& brought, const Rule& rule) {
  // To the owners. Both ends walk the sets in the same order, so numbers lie one after another.
  Mail to_owner;
  std::map<int, int64_t> expected;
  for (size_t s = 0; s < sets_.size(); ++s) {
    const MatrixSet& set = sets_[s];
    DF_ASSERT(static_cast<int64_t>(brought[s].size()) == rule.num_brought(set, set.part()));
    if (set.owner != set.part().rank) {
      Numbers& mail = to_owner[set.owner];
      mail.insert(mail.end(), brought[s].begin(), brought[s].end());
      continue;
    }
    for (size_t i = 0; i < set.parts.size(); ++i)
      if (i != set.mine) expected[set.parts[i].rank] += rule.num_brought(set, set.parts[i]);
  }
  const Mail at_owner = swap(to_owner, expected, "sums of matrices");

  Mail back;
  std::map<int, size_t> read;
  std::map<int, int64_t> returning;
  std::vector<Numbers> result(sets_.size());
  for (size_t s = 0; s < sets_.size(); ++s) {
    const MatrixSet& set = sets_[s];
    if (set.owner != set.part().rank) {
      returning[set.owner] += rule.num_taken(set, set.part());
      continue;
    }
    std::vector<Numbers> of_parts;
    for (size_t i = 0; i < set.parts.size(); ++i) {
      if (i == set.mine) {
        of_parts.push_back(brought[s]);
        continue;
      }
      const int rank = set.parts[i].rank;
      const auto begin = at_owner.at(rank).begin() + static_cast<std::ptrdiff_t>(read[rank]);
      const int64_t count = rule.num_brought(set, set.parts[i]);
      of_parts.emplace_back(begin, begin + count);
      read[rank] += static_cast<size_t>(count);
    }
    const std::vector<Numbers> totals = rule.add(set, of_parts);
    for (size_t i = 0; i < set.parts.size(); ++i) {
      DF_ASSERT(static_cast<int64_t>(totals[i].size()) == rule.num_taken(set, set.parts[i]));
      if (i == set.mine)
        result[s] = totals[i];
      else
        back[set.parts[i].rank].insert(back[set.parts[i].rank].end(), totals[i].begin(), totals[i].end());
    }
  }
  const Mail arrived = swap(back, returning, "totals of matrices");
  read.clear();
  for (size_t s = 0; s < sets_.size(); ++s) {
    const MatrixSet& set = sets_[s];
    if (set.owner == set.part().rank) continue;
    const auto begin = arrived.at(set.owner).begin() + static_cast<std::ptrdiff_t>(read[set.owner]);
    const int64_t count = rule.num_taken(set, set.part());
    result[s].assign(begin, begin + count);
    read[set.owner] += static_cast<size_t>(count);
  }
  return result;
}

}  // namespace deepflow
