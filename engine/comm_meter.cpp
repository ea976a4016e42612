#include "engine/comm_meter.h"

#include <vector>

namespace deepflow {

CommMeter::CommMeter(Machine& machine) : machine_(machine), before_(sent_by_this_rank()) {}

std::map<std::string, int64_t> CommMeter::sent_by_this_rank() const {
  std::map<std::string, int64_t> sent;
  for (const auto& [axes, comm] : machine_.mesh.communicators()) {
    if (comm->size() > 1) sent[axes] += comm->bytes().sent;
  }
  if (machine_.links.num_stages() > 1) sent["pp"] += machine_.links.bytes_sent();
  if (machine_.world().size() > 1) sent["partial"] += machine_.domains.bytes_sent();
  if (machine_.store.masters_are_sharded()) sent["gather"] += machine_.store.gather_bytes_sent();
  return sent;
}

std::map<std::string, int64_t> CommMeter::take() {
  machine_.store.wait_for_masters(machine_.stream);
  std::map<std::string, int64_t> now = sent_by_this_rank(), since = now;
  std::vector<int64_t> values;
  for (auto& [axes, bytes] : since) values.push_back(bytes -= before_[axes]);
  before_ = std::move(now);
  if (values.empty()) return since;
  const std::vector<int64_t> sums = sum_integers(machine_.world(), values, "bytes sent");
  size_t i = 0;
  for (auto& [axes, bytes] : since) bytes = sums[i++];
  return since;
}

}  // namespace deepflow
