#include "checkpoint/printable.h"

#include <fmt/format.h>

#include <algorithm>

namespace deepflow {

std::string printable(const std::string& name) {
  constexpr size_t kLongest = 100;
  std::string text = name.substr(0, kLongest);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return name.size() > kLongest ? text + "..." : text;
}

std::string printable_list(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i == 0 ? "" : ", ") + printable(names[i]);
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

}  // namespace deepflow
