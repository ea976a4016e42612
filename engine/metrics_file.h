#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace deepflow {

// One JSON object a line, appended and flushed; what programs read (docs/formats/metrics.md). Throws StorageError when
// a line cannot be written.
class MetricsFile {
 public:
  // A run that goes on behind a step keeps the lines of an older file up to there; otherwise the file begins empty.
  explicit MetricsFile(const std::string& path, int64_t go_on_behind = 0);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;
  void add(const nlohmann::json& object);
  const std::vector<nlohmann::json>& kept() const { return kept_; }

 private:
  void keep_until(int64_t step);

  std::string path_;
  std::vector<nlohmann::json> kept_;
  std::FILE* file_;
};

}  // namespace deepflow
