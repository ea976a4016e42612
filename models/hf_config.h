#pragma once

#include "core/error.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace deepflow {

// A Hugging Face config.json, or an object inside one, read with types. A key that is absent or null has its default,
// which is transformers' own. Errors are DataErrors that name the file and the key.
class HfConfig {
 public:
  // `where` is for messages: "DIR/config.json". Throws DataError when `json` is no object.
  HfConfig(nlohmann::json json, std::string where);

  bool has(const std::string& key) const;                          // and is not null
  bool is_null(const std::string& key) const;                      // there, but null
  int64_t positive(const std::string& key, int64_t absent) const;  // absent 0: must be there
  int64_t whole(const std::string& key, int64_t absent) const;     // at least 0
  double number(const std::string& key, double absent) const;      // finite
  bool boolean(const std::string& key, bool absent) const;
  std::string text(const std::string& key, const std::string& absent) const;
  std::vector<std::string> texts(const std::string& key) const;  // absent: none
  bool has_items(const std::string& key) const;                  // a list that is not empty
  HfConfig object(const std::string& key) const;

  template <class... A>
  [[noreturn]] void fail(const std::string& key, fmt::format_string<A...> f, A&&... a) const {
    throw DataError("{}: {} {}", where_, key, fmt::format(f, std::forward<A>(a)...));
  }

 private:
  int64_t whole_from(const std::string& key, int64_t least) const;
  const nlohmann::json& at(const std::string& key) const { return json_.at(key); }
  [[noreturn]] void wrong_type(const std::string& key, const char* needed) const;

  nlohmann::json json_;
  std::string where_;
};

}  // namespace deepflow
