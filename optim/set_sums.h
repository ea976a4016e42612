#pragma once

#include "optim/matrix_sets.h"

#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace deepflow {

// Sums over the ranks of each matrix set: every rank of a set brings numbers for its part, the owner adds them up in
// the order of parts, and every rank gets its share of the totals. One message to an owner and one back, however many
// sets.
class SetSums {
 public:
  // Keeps the sets by reference. Collective over domain.domains, where there are any.
  SetSums(const std::vector<MatrixSet>& sets, const OptimizerDomain& domain);

  using Numbers = std::vector<float>;
  // How many numbers a part brings and takes, and how those come about: of_parts[i] belongs to set.parts[i].
  struct Rule {
    std::function<int64_t(const MatrixSet&, const MatrixPart&)> num_brought, num_taken;
    std::function<std::vector<Numbers>(const MatrixSet&, const std::vector<Numbers>& of_parts)> add;
  };
  // By set; a set of one rank alone is added up there. Collective over the ranks of the sets.
  std::vector<Numbers> operator()(const std::vector<Numbers>& brought, const Rule& rule);

 private:
  // What ranks send each other: the numbers of one set after the other, in the order that both know.
  using Mail = std::map<int, Numbers>;
  class Reader;
  Mail bring(const std::vector<Numbers>& brought, const Rule& rule);
  Mail take(const Mail& totals, const Rule& rule);
  Mail swap(const Mail& sent, const std::map<int, int64_t>& received, const char* name);

  const std::vector<MatrixSet>& sets_;
  std::unique_ptr<Communicator> comm_;
};

}  // namespace deepflow
