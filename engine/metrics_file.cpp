#include "engine/metrics_file.h"

#include "core/durable_file.h"
#include "core/error.h"

#include <cerrno>
#include <cstring>
#include <fstream>

namespace deepflow {

MetricsFile::MetricsFile(const std::string& path, int64_t go_on_behind) : path_(path) {
  if (go_on_behind > 0) keep_until(go_on_behind);
  file_ = std::fopen(path.c_str(), go_on_behind > 0 ? "ae" : "we");
  if (!file_) throw StorageError("{}: cannot be created: {}", path, std::strerror(errno));
}

// Lines that a crash cut off are dropped with those that are too new.
void MetricsFile::keep_until(int64_t step) {
  std::ifstream file(path_);
  std::string text;
  for (std::string line; std::getline(file, line);) {
    nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains("step") || !object["step"].is_number_integer()) continue;
    if (object["step"].get<int64_t>() > step) continue;
    text += line + "\n";
    kept_.push_back(std::move(object));
  }
  if (file.is_open()) write_file_durably(path_, text);
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

void MetricsFile::add(const nlohmann::json& object) {
  const std::string line = object.dump() + "\n";
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0)
    throw StorageError("{}: {} while writing metrics; free space and run again", path_, std::strerror(errno));
}

}  // namespace deepflow
