#include "checkpoint/json_file.h"

#include "core/error.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace deepflow {
namespace {

constexpr size_t kLargest = size_t{64} << 20;
constexpr int kDeepest = 32;

using nlohmann::json;

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw StorageError("{}: cannot open it", path);
  std::string text, piece(size_t{64} << 10, '\0');
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
    text.append(piece, 0, static_cast<size_t>(in.gcount()));
    if (text.size() > kLargest) throw DataError("{}: it is larger than {} bytes", path, kLargest);
  }
  return text;
}

}  // namespace

json read_json_file(const std::string& path) { return parse_json_object(read_text(path), path); }

json parse_json_object(const std::string& text, const std::string& where) {
  // Values deeper than kDeepest are refused while they are parsed, before anything recursive sees them.
  const auto limit_depth = [&](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) throw DataError("{}: it is nested more than {} levels deep", where, kDeepest);
    return true;
  };
  try {
    json value = json::parse(text, limit_depth);
    if (!value.is_object()) throw DataError("{}: needs a JSON object, got {}", where, value.type_name());
    return value;
  } catch (const json::parse_error& e) {
    throw DataError("{}: it is not valid JSON at byte {}", where, e.byte);
  } catch (const json::out_of_range&) {
    throw DataError("{}: a number in it is larger than any that is computed with", where);
  }
}

}  // namespace deepflow
