#pragma once

#include <cstdint>
#include <vector>

namespace deepflow {

// Which source gives element i of an endless blend, and as its how-manieth. A balanced tree halves the sources; of the
// elements that reach a node, the first k send round(k * share) to the left. After any number of elements every source
// has given its weight's part to within half an element for each level of the tree: for two sources this is the order
// of Megatron-LM's largest-deficit rule (megatron/core/datasets/helpers.cpp), for more its like. Needs no memory and
// no history, and only integers once the shares are rounded to 2^-32.
class Blend {
 public:
  struct Place {
    int source;
    int64_t index;  // among this source's elements
  };

  explicit Blend(const std::vector<double>& weights);  // positive and finite, need not sum to 1; ConfigError

  int num_sources() const { return num_sources_; }
  Place place(int64_t i) const;
  // How many of the first n elements come from `source`.
  int64_t count(int source, int64_t n) const;

 private:
  // share_[k] belongs to the split of a range whose left part ends before source k.
  int num_sources_;
  std::vector<uint64_t> share_;
};

}  // namespace deepflow
