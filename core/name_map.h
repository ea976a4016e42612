#pragma once

#include <string>
#include <vector>

namespace deepflow {

// How one tensor of a foreign format is made of our logical parameters. `logical` are concatenated along the rows of
// [out, in] (vectors along their only dim); `transposed` means that the foreign tensor is stored [in, out].
struct NameMapEntry {
  std::string external;
  std::vector<std::string> logical;
  bool transposed = false;
};
using NameMap = std::vector<NameMapEntry>;

// What a foreign format calls the tensors of one model.
struct ForeignNames {
  NameMap map;
  std::string prefix;                // files of the bare body lack it ("transformer.", "model.")
  std::vector<std::string> ignored;  // ends of names whose tensors hold no parameter (masks, frequencies, a tied head)
};

}  // namespace deepflow
