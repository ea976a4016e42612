#pragma once

#include <string>
#include <vector>

namespace deepflow {

// A name from a file that may be hostile, fit for a one-line message: control characters replaced, cut when long.
std::string printable(const std::string& name);
// "a, b, c and 4 more"
std::string printable_list(const std::vector<std::string>& names);

}  // namespace deepflow
