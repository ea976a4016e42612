#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdio>
#include <string>

namespace deepflow {

// One JSON object a line, appended and flushed; what programs read (docs/formats/metrics.md). Throws StorageError when
// a line cannot be written.
class MetricsFile {
 public:
  explicit MetricsFile(const std::string& path);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;
  void add(const nlohmann::json& object);

 private:
  std::string path_;
  std::FILE* file_;
};

}  // namespace deepflow
