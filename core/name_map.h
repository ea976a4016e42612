#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// How one tensor of a foreign format is made of our logical parameters. `logical` are concatenated along the rows of
// [out, in] (vectors along their only dim); `transposed` means that the foreign tensor is stored [in, out]. Experts
// [experts, out, in] are concatenated along `out` as well, each with its like; with `index` the foreign tensor is that
// one matrix of theirs. Entries of the same parameters stand together. An optional one may be missing where files are
// read: its parameters then begin as their initialisers, constants, say.
struct NameMapEntry {
  std::string external;
  std::vector<std::string> logical;
  bool transposed = false;
  int64_t index = -1;
  bool optional = false;
};
using NameMap = std::vector<NameMapEntry>;

// What a foreign format calls the tensors of one model.
struct ForeignNames {
  NameMap map;                       // as files are written
  std::vector<NameMap> also_read;    // other ways in which they are found
  std::string prefix;                // files of the bare body lack it ("transformer.", "model.")
  std::vector<std::string> ignored;  // ends of names whose tensors hold no parameter (masks, frequencies, a tied head)
};

}  // namespace deepflow
