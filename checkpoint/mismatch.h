#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// What stands between the tensors of a file and those of a model, found before anything is read and told at once.
struct Mismatch {
  std::vector<std::string> missing, unexpected;
  std::vector<std::string> misshapen;  // "NAME (the model has [3, 6], the file U8 [6, 3])"

  // One DataError of one line, "WHERE: ...", with the number of each kind and its first dozen of names; nothing when
  // all is well.
  void throw_if_any(const std::string& where) const;
};

std::string shape_text(const std::vector<int64_t>& shape);  // "[4, 8]"; of a file that may be hostile: 8 dims at most

}  // namespace deepflow
