#include "launch/ckpt_text.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdio>

namespace deepflow {

std::string bytes_text(int64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"KB", "MB", "GB", "TB"}) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, unit);
}

std::string age_text(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{:.0f} min", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{:.1f} h", seconds / 3600);
  return fmt::format("{:.0f} days", seconds / 86400);
}

double age_of(const std::string& path) {
  struct stat status = {};
  if (stat((path + "/" + kCommitName).c_str(), &status) != 0) return 0;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count() - static_cast<double>(status.st_mtim.tv_sec);
}

nlohmann::json run_of(const Manifest& manifest) { return nlohmann::json::parse(manifest.run); }

std::string layout_text(const nlohmann::json& run) {
  if (!run.contains("layout") || !run["layout"].is_object()) return "";
  const nlohmann::json& layout = run["layout"];
  const auto number = [&](const char* key) {
    return layout.contains(key) && layout[key].is_number_integer() ? layout[key].get<int64_t>() : 0;
  };
  const int64_t ranks = number("ranks");
  std::string text = fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s");
  for (const char* axis : {"tp", "cp", "ep", "etp", "pp", "vp"})
    if (number(axis) > 1) text += fmt::format(", {} {}", axis, number(axis));
  if (number("zero") > 0) text += fmt::format(", zero {}", number("zero"));
  return text;
}

std::string lossy_text(const Manifest& manifest) {
  const std::string codec = manifest.lossy();
  return codec.empty() ? "" : fmt::format("LOSSY ({})", codec);
}

nlohmann::json json_of(const StoredSize& size) {
  nlohmann::json blocks = nlohmann::json::object();
  for (const auto& [codec, count] : size.blocks) blocks[name_of(codec)] = count;
  return {{"raw", size.raw},
          {"own", size.own},
          {"shared", size.shared},
          {"ratio", size.ratio()},
          {"blocks", std::move(blocks)}};
}

void print_json(const nlohmann::json& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace deepflow
