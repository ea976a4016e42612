#include "core/option_scalar.h"

#include "core/error.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace deepflow {
namespace {

[[noreturn]] void wrong_type(const OptionValue& value, const std::string& path, const char* expected) {
  fail_option(value.place, fmt::format("{} needs {}, got {}", path, expected, value.describe()));
}

template <class T>
bool parse_all(const std::string& text, T& out) {
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, out);
  return error == std::errc() && stop == end && begin != end && *begin != '+';
}

// 1e6 is a whole number too, as long as a double holds it exactly.
template <class T>
bool parse_whole(const std::string& text, T& out) {
  if (parse_all(text, out)) return true;
  double number = 0;
  if (!parse_all(text, number) || !std::isfinite(number)) return false;
  if (std::abs(number) > 9007199254740992.0 || number != std::floor(number)) return false;
  if (number < 0 && std::is_unsigned_v<T>) return false;
  out = static_cast<T>(number);
  return true;
}

// T is narrower than Wide or the same.
template <class Wide, class T>
void parse_integer(const OptionValue& value, const std::string& path, T& out) {
  Wide number = 0;
  const bool plain = value.kind == OptionValue::Kind::kScalar && !value.quoted;
  if (!plain || !parse_whole(value.text, number)) {
    wrong_type(value, path, std::is_unsigned_v<T> ? "a whole number from 0" : "a whole number");
  }
  if (number < std::numeric_limits<T>::min() || number > std::numeric_limits<T>::max()) {
    fail_option_range(value, path,
                      fmt::format("{} to {}", std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
  }
  out = static_cast<T>(number);
}

template <class T>
void parse_real(const OptionValue& value, const std::string& path, T& out) {
  T number = 0;
  const bool plain = value.kind == OptionValue::Kind::kScalar && !value.quoted;
  if (!plain || !parse_all(value.text, number) || !std::isfinite(number)) wrong_type(value, path, "a number");
  out = number;
}

template <class T>
OptionValue format_number(T value) {
  return OptionValue::scalar(fmt::format("{}", value));
}

}  // namespace

void parse_option(const OptionValue& value, const std::string& path, bool& out) {
  if (value.kind == OptionValue::Kind::kScalar && !value.quoted) {
    for (const char* yes : {"true", "yes", "on"}) {
      if (value.text == yes) return static_cast<void>(out = true);
    }
    for (const char* no : {"false", "no", "off"}) {
      if (value.text == no) return static_cast<void>(out = false);
    }
  }
  wrong_type(value, path, "true or false");
}

void parse_option(const OptionValue& value, const std::string& path, int& out) {
  parse_integer<int64_t>(value, path, out);
}
void parse_option(const OptionValue& value, const std::string& path, int64_t& out) {
  parse_integer<int64_t>(value, path, out);
}
void parse_option(const OptionValue& value, const std::string& path, uint64_t& out) {
  parse_integer<uint64_t>(value, path, out);
}
void parse_option(const OptionValue& value, const std::string& path, float& out) { parse_real(value, path, out); }
void parse_option(const OptionValue& value, const std::string& path, double& out) { parse_real(value, path, out); }

void parse_option(const OptionValue& value, const std::string& path, std::string& out) {
  if (value.kind != OptionValue::Kind::kScalar) wrong_type(value, path, "text");
  out = value.text;
}

OptionValue format_option(bool value) { return OptionValue::scalar(value ? "true" : "false"); }
OptionValue format_option(int value) { return format_number(value); }
OptionValue format_option(int64_t value) { return format_number(value); }
OptionValue format_option(uint64_t value) { return format_number(value); }
OptionValue format_option(float value) { return format_number(value); }
OptionValue format_option(double value) { return format_number(value); }

OptionValue format_option(const std::string& value) {
  return OptionValue::scalar(value, value.empty() || value == "none");
}

std::string range_option_text(const std::optional<std::string>& low, bool low_open,
                              const std::optional<std::string>& high, bool high_open) {
  if (low && high && !low_open && !high_open) return *low + " to " + *high;
  std::string text;
  if (low) text = (low_open ? "above " : "at least ") + *low;
  if (low && high) text += " and ";
  if (high) text += (high_open ? "below " : "at most ") + *high;
  return text;
}

void fail_option_range(const OptionValue& value, const std::string& path, const std::string& range) {
  fail_option(value.place, fmt::format("{} must be {}, got {}", path, range, value.describe()));
}

void fail_option_choice(const OptionValue& value, const std::string& path, const std::vector<std::string>& names) {
  fail_option(value.place, fmt::format("{} must be one of {}, got {}{}", path, join_option_names(names),
                                       value.describe(), nearest_name_hint(value.text, names)));
}

std::string join_option_names(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace deepflow
