#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace deepflow {

// A name from a file that may be hostile, fit for a one-line message: control characters replaced, cut when long.
std::string printable(const std::string& name, size_t longest = 100);
// "a, b, c and 4 more", `shown` of them by name.
std::string printable_list(const std::vector<std::string>& names, size_t shown);

}  // namespace deepflow
