#pragma once

#include "checkpoint/blockstore/contents.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace deepflow {

// What the commands of `deepflow ckpt` print alike.

std::string bytes_text(int64_t bytes);   // "812 B", "34.5 KB", "1.21 GB": powers of ten
std::string age_text(double seconds);    // "12 s", "5 min", "3.4 h", "12 days"
double age_of(const std::string& path);  // s since a folder was committed

// A manifest's `run`, whatever it holds: missing keys are null.
nlohmann::json run_of(const Manifest& manifest);
std::string layout_text(const nlohmann::json& run);  // "8 ranks, tp 2, pp 2, zero 1"; "" where it says nothing
std::string lossy_text(const Manifest& manifest);    // "LOSSY (nf4)" or ""

nlohmann::json json_of(const StoredSize& size);
void print_json(const nlohmann::json& json);

}  // namespace deepflow
