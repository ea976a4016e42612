#pragma once

#include "engine/machine.h"

#include <cstdint>
#include <map>
#include <string>

namespace deepflow {

// Counts what travels: payload bytes that all ranks sent along each set of mesh axes ("tp", "dr+ds", "pp" between
// stages), for gradients that are partial sums ("partial") and for masters that ZeRO-3 gathers ("gather");
// docs/communication.md has the formulas. What the whole job shares (labels, loss, norms, decisions: some bytes a step)
// is not counted. Collective.
class CommMeter {
 public:
  explicit CommMeter(Machine& machine);
  // Since the last call. Waits for masters that are still being gathered for the next step, so that they belong to the
  // step that has sent them.
  std::map<std::string, int64_t> take();

 private:
  std::map<std::string, int64_t> sent_by_this_rank() const;

  Machine& machine_;
  std::map<std::string, int64_t> before_;
};

}  // namespace deepflow
