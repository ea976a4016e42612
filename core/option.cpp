#include "core/option.h"

#include "core/option_yaml.h"

namespace deepflow {

std::string inline_option_text(const OptionValue& value) { return to_flow_yaml(value); }

void fail_option_length(const OptionValue& value, const std::string& path, size_t low, size_t high) {
  const size_t count = value.kind == OptionValue::Kind::kList ? value.items.size() : 1;
  fail_option(value.place, fmt::format("{} needs {}, got {}", path, length_option_text(low, high), count));
}

std::string length_option_text(size_t low, size_t high) {
  if (low == 0 && high == SIZE_MAX) return "";
  if (low == high) return fmt::format("{} {}", low, low == 1 ? "item" : "items");
  if (high == SIZE_MAX) return fmt::format("{} or more items", low);
  return fmt::format("{} to {} items", low, high);
}

std::string item_option_text(const OptionGroup& group) {
  std::vector<std::string> names;
  for (const auto& option : group.options()) names.push_back(option->name());
  const std::string map = fmt::format("{{{}}}", join_option_names(names));
  return group.short_form().empty() ? map : map + " (or just " + group.short_form() + ")";
}

bool is_absent_option(const OptionValue& value) {
  if (value.kind == OptionValue::Kind::kNull) return true;
  return value.kind == OptionValue::Kind::kScalar && !value.quoted && value.text == "none";
}

}  // namespace deepflow
