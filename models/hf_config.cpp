#include "models/hf_config.h"

#include "models/extents.h"

#include <cmath>

namespace deepflow {

using nlohmann::json;

HfConfig::HfConfig(json content, std::string where) : json_(std::move(content)), where_(std::move(where)) {
  if (!json_.is_object()) throw DataError("{}: needs a JSON object, got {}", where_, json_.type_name());
}

bool HfConfig::has(const std::string& key) const { return json_.contains(key) && !at(key).is_null(); }

bool HfConfig::is_null(const std::string& key) const { return json_.contains(key) && at(key).is_null(); }

int64_t HfConfig::positive(const std::string& key, int64_t absent) const {
  if (!has(key)) {
    if (absent == 0) fail(key, "is missing");
    return absent;
  }
  return whole_from(key, 1);
}

int64_t HfConfig::whole(const std::string& key, int64_t absent) const { return has(key) ? whole_from(key, 0) : absent; }

int64_t HfConfig::whole_from(const std::string& key, int64_t least) const {
  if (!at(key).is_number_integer()) wrong_type(key, "a whole number");
  const bool beyond = at(key).is_number_unsigned() && at(key).get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t value = beyond ? INT64_MAX : at(key).get<int64_t>();
  if (value > kLargestExtent) fail(key, "is {}, more than {}", at(key).dump(), kLargestExtent);
  if (value < least) fail(key, "needs to be at least {}, got {}", least, value);
  return value;
}

double HfConfig::number(const std::string& key, double absent) const {
  if (!has(key)) return absent;
  if (!at(key).is_number()) wrong_type(key, "a number");
  const double value = at(key).get<double>();
  if (!std::isfinite(value)) wrong_type(key, "a finite number");
  return value;
}

bool HfConfig::boolean(const std::string& key, bool absent) const {
  if (!has(key)) return absent;
  if (!at(key).is_boolean()) wrong_type(key, "true or false");
  return at(key).get<bool>();
}

std::string HfConfig::text(const std::string& key, const std::string& absent) const {
  if (!has(key)) return absent;
  if (!at(key).is_string()) wrong_type(key, "text");
  return at(key).get<std::string>();
}

std::vector<std::string> HfConfig::texts(const std::string& key) const {
  if (!has(key)) return {};
  std::vector<std::string> list;
  if (!at(key).is_array()) wrong_type(key, "a list");
  for (const json& item : at(key)) {
    if (!item.is_string()) wrong_type(key, "a list of texts");
    list.push_back(item.get<std::string>());
  }
  return list;
}

bool HfConfig::has_items(const std::string& key) const {
  if (!has(key)) return false;
  if (!at(key).is_array()) wrong_type(key, "a list");
  return !at(key).empty();
}

HfConfig HfConfig::object(const std::string& key) const {
  if (!at(key).is_object()) wrong_type(key, "an object");
  return {at(key), where_ + ": " + key};
}

void HfConfig::wrong_type(const std::string& key, const char* needed) const {
  std::string got = at(key).dump(-1, ' ', true, json::error_handler_t::replace);
  if (got.size() > 40) got = got.substr(0, 40) + "...";
  fail(key, "needs {}, got {}", needed, got);
}

}  // namespace deepflow
