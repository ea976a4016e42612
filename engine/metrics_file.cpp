#include "engine/metrics_file.h"

#include "core/error.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>

namespace deepflow {

MetricsFile::MetricsFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "we")) {
  if (!file_) throw StorageError("{}: cannot be created: {}", path, std::strerror(errno));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

void MetricsFile::add(const nlohmann::json& object) {
  const std::string line = object.dump() + "\n";
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0)
    throw StorageError("{}: {} while writing metrics; free space and run again", path_, std::strerror(errno));
}

}  // namespace deepflow
