#pragma once

#include "core/option_value.h"

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace deepflow {

// One scalar from a recipe. A plain scalar only for numbers and switches; `true`, `yes` and `on` are the same; a whole
// number may be written as 1e6; numbers are finite. Throws ConfigError "file:3: optim.lr needs a number, got fast".
void parse_option(const OptionValue& value, const std::string& path, bool& out);
void parse_option(const OptionValue& value, const std::string& path, int& out);
void parse_option(const OptionValue& value, const std::string& path, int64_t& out);
void parse_option(const OptionValue& value, const std::string& path, uint64_t& out);
void parse_option(const OptionValue& value, const std::string& path, float& out);
void parse_option(const OptionValue& value, const std::string& path, double& out);
void parse_option(const OptionValue& value, const std::string& path, std::string& out);

// The shortest text that parse_option reads back as the same value.
OptionValue format_option(bool value);
OptionValue format_option(int value);
OptionValue format_option(int64_t value);
OptionValue format_option(uint64_t value);
OptionValue format_option(float value);
OptionValue format_option(double value);
OptionValue format_option(const std::string& value);

template <class T>
constexpr const char* option_type_text() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_integral_v<T>) return "whole number";
  if constexpr (std::is_floating_point_v<T>) return "number";
  return "text";
}

std::string range_option_text(const std::optional<std::string>& low, bool low_open,
                              const std::optional<std::string>& high, bool high_open);
[[noreturn]] void fail_option_range(const OptionValue& value, const std::string& path, const std::string& range);
[[noreturn]] void fail_option_choice(const OptionValue& value, const std::string& path,
                                     const std::vector<std::string>& names);
std::string join_option_names(const std::vector<std::string>& names);  // "a, b, c"

// Which values of a scalar type an option takes.
template <class T>
class OptionLimits {
 public:
  void at_least(T low) { low_ = low, low_open_ = false; }
  void at_most(T high) { high_ = high, high_open_ = false; }
  void above(T low) { low_ = low, low_open_ = true; }
  void below(T high) { high_ = high, high_open_ = true; }
  void range(T low, T high) { at_least(low), at_most(high); }
  void one_of(std::vector<T> items) {
    choices_.clear();
    for (T& item : items) choices_.emplace_back(format_option(item).text, std::move(item));
  }
  void values(std::vector<std::pair<std::string, T>> table) { choices_ = std::move(table); }

  void read(const OptionValue& value, const std::string& path, T& out) const;
  OptionValue write(const T& value) const;
  std::string text() const;  // "0 to 10", "one of a, b", ""
  bool has_choices() const { return !choices_.empty(); }

 private:
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& choice : choices_) result.push_back(choice.first);
    return result;
  }
  std::string bounds_text() const;

  std::optional<T> low_, high_;
  bool low_open_ = false, high_open_ = false;
  std::vector<std::pair<std::string, T>> choices_;
};

template <class T>
void OptionLimits<T>::read(const OptionValue& value, const std::string& path, T& out) const {
  T result{};
  if constexpr (std::is_enum_v<T>) {
    std::string name;
    parse_option(value, path, name);
    for (const auto& choice : choices_) {
      if (choice.first == name) return static_cast<void>(out = choice.second);
    }
    fail_option_choice(value, path, names());
  } else {
    parse_option(value, path, result);
    bool known = choices_.empty();
    for (const auto& choice : choices_) known = known || choice.second == result;
    if (!known) fail_option_choice(value, path, names());
    const bool too_low = low_ && (result < *low_ || (low_open_ && result == *low_));
    const bool too_high = high_ && (*high_ < result || (high_open_ && result == *high_));
    if (too_low || too_high) fail_option_range(value, path, bounds_text());
    out = std::move(result);
  }
}

template <class T>
OptionValue OptionLimits<T>::write(const T& value) const {
  if constexpr (std::is_enum_v<T>) {
    for (const auto& choice : choices_) {
      if (choice.second == value) return OptionValue::scalar(choice.first);
    }
    return {};
  } else {
    return format_option(value);
  }
}

template <class T>
std::string OptionLimits<T>::bounds_text() const {
  if constexpr (std::is_enum_v<T>) {
    return "";
  } else {
    const auto text = [](const std::optional<T>& bound) {
      return bound ? std::optional<std::string>(format_option(*bound).text) : std::nullopt;
    };
    return range_option_text(text(low_), low_open_, text(high_), high_open_);
  }
}

template <class T>
std::string OptionLimits<T>::text() const {
  return has_choices() ? "one of " + join_option_names(names()) : bounds_text();
}

}  // namespace deepflow
