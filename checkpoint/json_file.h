#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace deepflow {

// A JSON object from a file of at most 64 MiB. Throws StorageError or DataError, one line that names the file.
nlohmann::json read_json_file(const std::string& path);

}  // namespace deepflow
