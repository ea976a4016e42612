#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// Where a value was written: a file and its line (counted from 1; 0: the file as a whole) or the command line.
struct OptionPlace {
  std::shared_ptr<const std::string> origin;  // empty: nowhere, the value is a default
  int line = 0;

  std::string prefix() const;  // "quickstart.yaml:8: ", "command line: " or ""
};

struct OptionEntry;

// A recipe as plain data, before anybody knows what its keys mean and after it has been resolved.
// option_yaml.h turns text into it and back; OptionGroup (option.h) gives it types.
struct OptionValue {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;                  // of a scalar
  bool quoted = false;               // a quoted scalar is text, never a number, a switch or `none`
  std::vector<OptionValue> items;    // of a list
  std::vector<OptionEntry> entries;  // of a map, in the order they were written
  OptionPlace place;

  static OptionValue scalar(std::string text, bool quoted = false);
  static OptionValue map(OptionPlace place = {});

  std::string describe() const;  // for messages: the text of a scalar (shortened), "nothing", "a list", "a map"
};

struct OptionEntry {
  std::string key;
  OptionPlace place;  // of the key
  OptionValue value;
  std::string comment;  // one line beside the key when it is written back
};

// Throws ConfigError "<place>: <message>" as one line: control characters are escaped, a very long message is cut.
[[noreturn]] void fail_option(const OptionPlace& place, const std::string& message);

}  // namespace deepflow
