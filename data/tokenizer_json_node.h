#pragma once

#include "core/error.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>
#include <string_view>

namespace deepflow {

// A value of a JSON file together with its place in it ("tokenizer.json: model.merges[3]"), so that every wrong type,
// missing or unknown key becomes a DataError that names the place.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string file, std::string path = "")
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  const nlohmann::json& value() const { return *value_; }
  bool is_null() const { return value_->is_null(); }
  bool has(const char* key) const { return value_->is_object() && value_->contains(key) && !value_->at(key).is_null(); }

  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("{}: {} {}", file_, path_.empty() ? "the top level" : path_, what);
  }

  JsonNode at(const char* key) const {
    need_object();
    const auto it = value_->find(key);
    // A string_view: the copy of fmt inside Debian's libspdlog throws on {:?} of a const char*.
    if (it == value_->end()) fail(fmt::format("has no {:?}", std::string_view(key)));
    return {*it, file_, path_.empty() ? key : path_ + "." + key};
  }
  JsonNode at(size_t i) const { return {value_->at(i), file_, fmt::format("{}[{}]", path_, i)}; }

  size_t array_size() const {
    if (!value_->is_array()) fail(fmt::format("is {}, expected an array", value_->type_name()));
    return value_->size();
  }
  const std::string& string() const {
    if (!value_->is_string()) fail(fmt::format("is {}, expected a string", value_->type_name()));
    return value_->get_ref<const std::string&>();
  }
  int64_t integer(int64_t lowest, int64_t highest) const {
    const bool fits = value_->is_number_integer() &&
                      (!value_->is_number_unsigned() || value_->get<uint64_t>() <= uint64_t{INT64_MAX}) &&
                      value_->get<int64_t>() >= lowest && value_->get<int64_t>() <= highest;
    if (!fits) fail(fmt::format("is {}, expected an integer from {} to {}", brief(), lowest, highest));
    return value_->get<int64_t>();
  }
  bool boolean() const {
    if (!value_->is_boolean()) fail(fmt::format("is {}, expected true or false", value_->type_name()));
    return value_->get<bool>();
  }
  bool boolean(const char* key, bool otherwise) const { return has(key) ? at(key).boolean() : otherwise; }
  std::string type() const { return at("type").string(); }

  void need_object() const {
    if (!value_->is_object()) fail(fmt::format("is {}, expected an object", value_->type_name()));
  }
  void only(std::initializer_list<const char*> known) const {
    need_object();
    for (const auto& item : value_->items()) {
      bool found = false;
      for (const char* k : known) found |= item.key() == k;
      if (!found) fail(fmt::format("has the key {:?}, which DeepFlow does not know", item.key()));
    }
  }
  std::string brief() const {
    if (value_->is_object() || value_->is_array()) return value_->type_name();
    std::string text = value_->dump();
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
  }

 private:
  const nlohmann::json* value_;
  std::string file_, path_;
};

// Parses `text`; `file` is for messages. Throws DataError for what is no JSON, nested too deep, or too large.
nlohmann::json parse_json(const std::string& text, const std::string& file);

}  // namespace deepflow
