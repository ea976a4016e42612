#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace deepflow {

// A JSON object from a file of at most 64 MiB. Throws StorageError or DataError, one line that names the file.
nlohmann::json read_json_file(const std::string& path);
// The same from text that was read already; `where` is for messages.
nlohmann::json parse_json_object(const std::string& text, const std::string& where);

}  // namespace deepflow
