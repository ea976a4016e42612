#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// What a user can meet. The message is one line: what, where, expected, got, what to do.
// `deepflow` prints it once, on one rank's behalf, and exits with code 2.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ConfigError : public Error {  // a recipe, an option, a layout
 public:
  template <class... A>
  explicit ConfigError(fmt::format_string<A...> f, A&&... a) : Error(fmt::format(f, std::forward<A>(a)...)) {}
};

class DataError : public Error {  // the content of a store, a tokenizer, a model folder
 public:
  template <class... A>
  explicit DataError(fmt::format_string<A...> f, A&&... a) : Error(fmt::format(f, std::forward<A>(a)...)) {}
};

class StorageError : public Error {  // the file system: missing, full, not permitted
 public:
  template <class... A>
  explicit StorageError(fmt::format_string<A...> f, A&&... a) : Error(fmt::format(f, std::forward<A>(a)...)) {}
};

class CommError : public Error {  // a rank that is missing, a collective that did not finish
 public:
  template <class... A>
  explicit CommError(fmt::format_string<A...> f, A&&... a) : Error(fmt::format(f, std::forward<A>(a)...)) {}
};

class DeviceError : public Error {  // a GPU that is missing, or whose work failed
 public:
  template <class... A>
  explicit DeviceError(fmt::format_string<A...> f, A&&... a) : Error(fmt::format(f, std::forward<A>(a)...)) {}
};

// Training cannot go on: a loss or gradient that is not finite.
class NumericError : public Error {
 public:
  template <class... A>
  explicit NumericError(fmt::format_string<A...> f, A&&... a) : Error(fmt::format(f, std::forward<A>(a)...)) {}
};

// The nearest of `known` within a small edit distance; empty if none is near.
std::string nearest_name(const std::string& given, const std::vector<std::string>& known);
// "; did you mean NAME?" for the nearest, or "".
std::string nearest_name_hint(const std::string& given, const std::vector<std::string>& known);

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line, const std::string& message);

}  // namespace deepflow

// For our own bugs, in every build: prints the place and aborts. DF_ASSERT(a == b) or DF_ASSERT(a == b, "rows {}", a).
#define DF_ASSERT(cond, ...)                                                                  \
  do {                                                                                        \
    if (!(cond)) [[unlikely]]                                                                 \
      ::deepflow::assertion_failed(#cond, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (0)
