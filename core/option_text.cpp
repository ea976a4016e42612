#include "core/option_text.h"

#include "core/option_scalar.h"

#include <algorithm>

namespace deepflow {
namespace {

std::string one_line_each(const OptionGroup& group) {
  std::string text;
  for (const auto& option : group.options()) {
    const std::string preset = option->section() ? "" : fmt::format(" (default {})", option->default_text());
    text += fmt::format("  {:<23} {}{}\n", option->name(), option->help_text(),
                        option->is_required() ? " (required)" : preset);
  }
  for (const auto& variant : group.variants()) {
    text += fmt::format("keys when {} is {}\n{}", variant.key, variant.value, one_line_each(*variant.group));
  }
  return text;
}

struct Found {
  const Option* option;
  std::string condition;  // "model.family is llama" below a variant, "" for a key that always exists
};

void collect_all(const OptionGroup& group, const std::string& condition, std::vector<Found>& out) {
  for (const auto& option : group.options()) {
    out.push_back({option.get(), condition});
    if (option->keys()) collect_all(*option->keys(), condition, out);
  }
  for (const auto& variant : group.variants()) {
    const std::string key = group.path().empty() ? variant.key : group.path() + "." + variant.key;
    collect_all(*variant.group, fmt::format("{} is {}", key, variant.value), out);
  }
}

bool absent_by_default(const Option& option) {
  return !option.absent_text().empty() && option.default_text() == "none";
}

// "number, 0 to 10"; names alone say that they are text.
std::string values_text(const Option& option) {
  std::string type = option.type_text(), range = option.range_text();
  if (range.empty()) return type;
  if (type == "text") return range;
  return type + ", " + range;
}

std::string default_with_meaning(const Option& option) {
  if (option.is_required()) return "required";
  if (absent_by_default(option)) return "none: " + option.absent_text();
  return option.default_text();
}

std::string explain_one(const Option& option, const std::string& condition) {
  std::string text = fmt::format("{}\n  {}\n", option.path(), option.help_text());
  const auto line = [&text](const char* label, const std::string& value) {
    if (!value.empty()) text += fmt::format("  {:<9}{}\n", label, value);
  };
  line("only if", condition);
  line("values", values_text(option));
  line("unit", option.unit_text());
  if (!option.section()) line("default", default_with_meaning(option));
  if (!absent_by_default(option)) line("none", option.absent_text());
  line("source", option.source_text());
  if (option.keys()) text += "keys\n" + one_line_each(*option.keys());
  return text;
}

std::string cell(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string table_row(const Option& option) {
  std::string meaning = option.help_text();
  if (!option.unit_text().empty()) meaning += fmt::format(" [{}]", option.unit_text());
  if (!option.absent_text().empty()) meaning += fmt::format("; none: {}", option.absent_text());
  if (!option.source_text().empty()) meaning += fmt::format(" ({})", option.source_text());
  const std::string preset = option.is_required() ? "required" : fmt::format("`{}`", option.default_text());
  return fmt::format("| `{}` | {} | {} | {} |\n", option.name(), cell(preset), cell(values_text(option)),
                     cell(meaning));
}

void add_keys(const OptionGroup& group, const std::string& heading, std::string& out) {
  std::string rows;
  for (const auto& option : group.options()) {
    if (!option->section()) rows += table_row(*option);
  }
  if (!rows.empty()) out += "\n| key | default | values | meaning |\n| --- | --- | --- | --- |\n" + rows;
  for (const auto& variant : group.variants()) {
    const std::string below = fmt::format("{} when {} is {}", heading, variant.key, variant.value);
    out += fmt::format("\n## {}\n", below);
    add_keys(*variant.group, below, out);
  }
  for (const auto& option : group.options()) {
    if (!option->keys()) continue;
    const std::string below = option->path() + (option->type_text().starts_with("list") ? ", each item" : "");
    out += fmt::format("\n## {}\n\n{}\n", below, option->help_text());
    add_keys(*option->keys(), below, out);
  }
}

}  // namespace

std::string explain_option(const OptionGroup& root, const std::string& key) {
  if (key.empty()) return one_line_each(root);
  std::vector<Found> all;
  collect_all(root, "", all);
  std::vector<Found> found;  // keys of several variants that mean the same are told once
  std::vector<std::string> names;
  std::string same_name;
  for (const auto& [option, condition] : all) {
    names.push_back(option->path());
    if (option->name() == key && same_name.empty()) same_name = option->path();
    if (option->path() != key) continue;
    const std::string meaning = explain_one(*option, "");
    const auto same = std::find_if(found.begin(), found.end(),
                                   [&](const Found& other) { return explain_one(*other.option, "") == meaning; });
    if (same == found.end()) {
      found.push_back({option, condition});
    } else {
      same->condition += " or " + condition;
    }
  }
  std::string text;
  for (const Found& each : found) text += explain_one(*each.option, each.condition);
  if (!text.empty()) return text;
  const std::string near = same_name.empty() ? nearest_name(key, names) : same_name;
  fail_option({}, fmt::format("{} is not a key{}", key, near.empty() ? "" : "; did you mean " + near + "?"));
}

std::string reference_markdown(const OptionGroup& root, const std::string& title, const std::string& preamble) {
  std::string text = fmt::format("# {}\n\n{}\n", title, preamble);
  add_keys(root, "", text);
  return text;
}

}  // namespace deepflow
