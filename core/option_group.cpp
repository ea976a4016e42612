#include "core/option_group.h"

#include <algorithm>

namespace deepflow {
namespace {

OptionPlace whole_file(OptionPlace place) {
  place.line = 0;
  return place;
}

// Every key of the tree whose last part is `name`: "lr" at the wrong level is most likely meant to be optim.lr.
void collect_named(const OptionGroup& group, const std::string& name, std::vector<std::string>& out) {
  for (const auto& option : group.options()) {
    if (option->name() == name) out.push_back(option->path());
    if (option->keys()) collect_named(*option->keys(), name, out);
  }
  for (const auto& variant : group.variants()) collect_named(*variant.group, name, out);
}

}  // namespace

void Option::read_from(const OptionValue& value, const OptionPlace& place) {
  read(value);
  place_ = place;
}

SectionOption::SectionOption(std::string path, std::string name) : Option(path, std::move(name)) {
  group_ = std::make_unique<OptionGroup>(std::move(path));
}
SectionOption::~SectionOption() = default;
OptionValue SectionOption::write() const { return group_->write(); }
void SectionOption::read(const OptionValue& value) { group_->read(value); }

Option& OptionGroup::put(std::unique_ptr<Option> option) {
  DF_ASSERT(!own(option->name()), "option {} is declared twice", option->path());
  options_.push_back(std::move(option));
  return *options_.back();
}

SectionOption& OptionGroup::add_section(const std::string& name) {
  auto section = std::make_unique<SectionOption>(path_to(name), name);
  section->section()->root_ = root_;
  return static_cast<SectionOption&>(put(std::move(section)));
}

OptionGroup& OptionGroup::variant(const std::string& key, const std::string& value) {
  DF_ASSERT(own(key), "{} is not declared, so it has no variants", path_to(key));
  variants_.push_back({key, value, std::make_unique<OptionGroup>(path_)});
  variants_.back().group->root_ = root_;
  return *variants_.back().group;
}

Option* OptionGroup::own(const std::string& name) const {
  for (const auto& option : options_) {
    if (option->name() == name) return option.get();
  }
  return nullptr;
}

bool OptionGroup::active(const Variant& variant) const { return own(variant.key)->write().text == variant.value; }

void OptionGroup::read(const OptionValue& value) {
  using Kind = OptionValue::Kind;
  if (value.kind == Kind::kMap || value.kind == Kind::kNull) {
    read_entries(value);
  } else if (value.kind == Kind::kScalar && !short_form_.empty()) {
    OptionValue map = OptionValue::map(value.place);
    map.entries.push_back({short_form_, value.place, value, ""});
    read_entries(map);
  } else {
    fail_option(value.place,
                fmt::format("{} needs a map of keys, got {}", path_.empty() ? "a recipe" : path_, value.describe()));
  }
}

void OptionGroup::read_entries(const OptionValue& map) {
  std::vector<const OptionEntry*> rest;
  for (const OptionEntry& entry : map.entries) {
    if (Option* option = own(entry.key)) {
      option->read_from(entry.value, entry.place);
    } else {
      rest.push_back(&entry);
    }
  }
  read_rest(rest, map.place);
  finish(map.place);
}

// The keys of active variants, read by their groups as if they were the whole map.
void OptionGroup::read_rest(const std::vector<const OptionEntry*>& rest, const OptionPlace& whole) {
  std::vector<OptionValue> maps(variants_.size(), OptionValue::map(whole));
  for (const OptionEntry* entry : rest) {
    size_t taker = variants_.size();
    for (size_t i = 0; i < variants_.size() && taker == variants_.size(); ++i) {
      if (active(variants_[i]) && variants_[i].group->own(entry->key)) taker = i;
    }
    if (taker == variants_.size()) unknown_key(*entry);
    maps[taker].entries.push_back(*entry);
  }
  for (size_t i = 0; i < variants_.size(); ++i) {
    if (active(variants_[i])) variants_[i].group->read_entries(maps[i]);
  }
}

void OptionGroup::finish(const OptionPlace& whole) {
  for (const auto& option : options_) {
    if (option->section() && !option->given()) option->section()->read(OptionValue::map(whole_file(whole)));
    if (option->is_required() && !option->given()) {
      fail_option(whole, fmt::format("{} is missing and has no default ({})", option->path(), option->help_text()));
    }
  }
  for (const Check& check : checks_) check(*this);
}

void OptionGroup::unknown_key(const OptionEntry& entry) const {
  std::vector<std::string> names;
  for (const auto& option : options_) names.push_back(option->name());
  for (const Variant& variant : variants_) {
    if (variant.group->own(entry.key)) {
      fail_option(entry.place,
                  fmt::format("{} is a key of {} {}, but {} is {}", path_to(entry.key), path_to(variant.key),
                              variant.value, path_to(variant.key), own(variant.key)->write().text));
    }
    if (!active(variant)) continue;
    for (const auto& option : variant.group->options()) names.push_back(option->name());
  }
  std::string hint;
  if (const std::string near = nearest_name(entry.key, names); !near.empty()) {
    hint = fmt::format("; did you mean {}?", path_to(near));
  } else {
    std::vector<std::string> elsewhere;
    collect_named(*root_, entry.key, elsewhere);
    if (!elsewhere.empty()) hint = fmt::format("; did you mean {}?", elsewhere.front());
  }
  fail_option(entry.place, fmt::format("{} is not a key{}", path_to(entry.key), hint));
}

OptionValue OptionGroup::write() const {
  OptionValue map = OptionValue::map();
  for (const auto& option : options_) {
    const std::string& unit = option->unit_text();
    const std::string comment = option->help_text() + (unit.empty() ? "" : " [" + unit + "]");
    map.entries.push_back({option->name(), {}, option->write(), comment});
    for (const Variant& variant : variants_) {
      if (variant.key != option->name() || !active(variant)) continue;
      OptionValue rest = variant.group->write();
      std::move(rest.entries.begin(), rest.entries.end(), std::back_inserter(map.entries));
    }
  }
  return map;
}

void OptionGroup::fail_text(const std::string& key, const std::string& message) const {
  const Option* option = find(key);
  DF_ASSERT(option, "{} is not declared", path_to(key));
  fail_option(option->place(), option->path() + " " + message);
}

bool OptionGroup::given(const std::string& key) const {
  const Option* option = find(key);
  DF_ASSERT(option, "{} is not declared", path_to(key));
  return option->given();
}

const Option* OptionGroup::find(const std::string& dotted) const {
  const size_t dot = dotted.find('.');
  const std::string head = dotted.substr(0, dot);
  if (const Option* option = own(head)) {
    if (dot == std::string::npos) return option;
    return option->keys() ? option->keys()->find(dotted.substr(dot + 1)) : nullptr;
  }
  const Option* found = nullptr;
  for (const Variant& variant : variants_) {
    const Option* option = variant.group->find(dotted);
    if (option && (!found || option->given() || active(variant))) found = option;
  }
  return found;
}

}  // namespace deepflow
