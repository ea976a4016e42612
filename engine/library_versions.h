#pragma once

#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// Name and version of the libraries that this process runs with, as they themselves tell; "not found" for a CUDA
// library that a build with CUDA would use. Opens those of CUDA, which takes a while.
std::vector<std::pair<std::string, std::string>> library_versions();

}  // namespace deepflow
