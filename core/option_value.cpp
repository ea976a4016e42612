#include "core/option_value.h"

#include "core/error.h"

namespace deepflow {
namespace {

// At most `longest` bytes, cut between two UTF-8 characters.
std::string shortened(const std::string& text, size_t longest) {
  if (text.size() <= longest) return text;
  while (longest > 0 && (static_cast<unsigned char>(text[longest]) & 0xC0) == 0x80) --longest;
  return text.substr(0, longest) + "...";
}

}  // namespace

std::string OptionPlace::prefix() const {
  if (!origin) return "";
  return line > 0 ? fmt::format("{}:{}: ", *origin, line) : *origin + ": ";
}

OptionValue OptionValue::scalar(std::string text, bool quoted) {
  OptionValue value;
  value.kind = Kind::kScalar;
  value.text = std::move(text);
  value.quoted = quoted;
  return value;
}

OptionValue OptionValue::map(OptionPlace place) {
  OptionValue value;
  value.kind = Kind::kMap;
  value.place = std::move(place);
  return value;
}

std::string OptionValue::describe() const {
  switch (kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
    case Kind::kScalar:
      break;
  }
  const std::string shown = shortened(text, 60);
  return quoted || text.empty() ? '"' + shown + '"' : shown;
}

void fail_option(const OptionPlace& place, const std::string& message) {
  std::string line;
  for (const char c : place.prefix() + shortened(message, 600)) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      line += fmt::format("\\x{:02x}", c);
    } else {
      line += c;
    }
  }
  throw ConfigError("{}", line);
}

}  // namespace deepflow
