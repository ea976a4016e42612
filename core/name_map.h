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

}  // namespace deepflow
