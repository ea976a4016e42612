#include "checkpoint/printable.h"

#include <fmt/format.h>

#include <algorithm>

namespace deepflow {

std::string printable(const std::string& name, size_t longest) {
  std::string text = name.substr(0, longest);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return name.size() > longest ? text + "..." : text;
}

std::string printable_list(const std::vector<std::string>& names, size_t shown) {
  constexpr size_t kLongest = 200;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), shown); ++i)
    text += (i == 0 ? "" : ", ") + printable(names[i], kLongest);
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

}  // namespace deepflow
