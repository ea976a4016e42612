#include "optim/set_sums.h"

#include "core/error.h"

namespace deepflow {
namespace {

bool is_owner(const MatrixSet& set) { return set.owner == set.part().rank; }

void append(SetSums::Numbers& to, const SetSums::Numbers& from) { to.insert(to.end(), from.begin(), from.end()); }

}  // namespace

// Reads what each rank sent, set by set.
class SetSums::Reader {
 public:
  explicit Reader(const Mail& mail) : mail_(mail) {}
  Numbers next(int rank, int64_t count) {
    const Numbers& all = mail_.at(rank);
    const auto begin = all.begin() + read_[rank];
    read_[rank] += count;
    return {begin, begin + count};
  }

 private:
  const Mail& mail_;
  std::map<int, int64_t> read_;
};

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

SetSums::Mail SetSums::bring(const std::vector<Numbers>& brought, const Rule& rule) {
  Mail sent;
  std::map<int, int64_t> received;
  for (size_t s = 0; s < sets_.size(); ++s) {
    const MatrixSet& set = sets_[s];
    DF_ASSERT(static_cast<int64_t>(brought[s].size()) == rule.num_brought(set, set.part()));
    if (!is_owner(set)) {
      append(sent[set.owner], brought[s]);
      continue;
    }
    for (size_t i = 0; i < set.parts.size(); ++i)
      if (i != set.mine) received[set.parts[i].rank] += rule.num_brought(set, set.parts[i]);
  }
  return swap(sent, received, "sums of matrices");
}

SetSums::Mail SetSums::take(const Mail& totals, const Rule& rule) {
  std::map<int, int64_t> received;
  for (const MatrixSet& set : sets_)
    if (!is_owner(set)) received[set.owner] += rule.num_taken(set, set.part());
  return swap(totals, received, "totals of matrices");
}

std::vector<SetSums::Numbers> SetSums::operator()(const std::vector<Numbers>& brought, const Rule& rule) {
  const Mail arrived = bring(brought, rule);
  Reader parts(arrived);
  Mail totals;
  std::vector<Numbers> result(sets_.size());
  for (size_t s = 0; s < sets_.size(); ++s) {
    const MatrixSet& set = sets_[s];
    if (!is_owner(set)) continue;
    std::vector<Numbers> of_parts;
    for (size_t i = 0; i < set.parts.size(); ++i)
      of_parts.push_back(i == set.mine ? brought[s]
                                       : parts.next(set.parts[i].rank, rule.num_brought(set, set.parts[i])));
    std::vector<Numbers> sums = rule.add(set, of_parts);
    for (size_t i = 0; i < set.parts.size(); ++i) {
      DF_ASSERT(static_cast<int64_t>(sums[i].size()) == rule.num_taken(set, set.parts[i]));
      if (i != set.mine) append(totals[set.parts[i].rank], sums[i]);
    }
    result[s] = std::move(sums[set.mine]);
  }
  const Mail taken = take(totals, rule);
  Reader own(taken);
  for (size_t s = 0; s < sets_.size(); ++s)
    if (!is_owner(sets_[s])) result[s] = own.next(sets_[s].owner, rule.num_taken(sets_[s], sets_[s].part()));
  return result;
}

}  // namespace deepflow
