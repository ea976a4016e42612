#pragma once

// The templates of option.h; include that one.

#include "core/option.h"

namespace deepflow {

std::string inline_option_text(const OptionValue& value);  // as one line of YAML
[[noreturn]] void fail_option_length(const OptionValue& value, const std::string& path, size_t low, size_t high);
std::string length_option_text(size_t low, size_t high);  // "2 items", "" when any length is allowed
std::string item_option_text(const OptionGroup& group);   // "{store, weight}"
bool is_absent_option(const OptionValue& value);          // null or a plain `none`

template <class T>
TypedOption<T>::TypedOption(std::string path, std::string name, T& target)
    : Option(std::move(path), std::move(name)), target_(target) {
  if constexpr (!kScalar) {
    example_ = std::make_unique<Example>();
    example_->group = std::make_unique<OptionGroup>(path_);
    declare(*example_->group, example_->item);
  }
  if constexpr (!std::is_enum_v<Item>) default_ = inline_option_text(write());
}

template <class T>
TypedOption<T>& TypedOption<T>::values(std::vector<std::pair<std::string, Item>> table) {
  limits_.values(std::move(table));
  default_ = inline_option_text(write());
  return *this;
}

template <class T>
std::string TypedOption<T>::type_text() const {
  const std::string item = kScalar ? option_type_text<Item>() : item_option_text(*keys());
  const std::string shape = OptionShape<T>::is_list ? "list of " + item : item;
  return OptionShape<T>::is_optional ? shape + ", or none" : shape;
}

template <class T>
std::string TypedOption<T>::range_text() const {
  std::string text;
  if constexpr (kScalar) text = limits_.text();
  const std::string length = length_option_text(low_length_, high_length_);
  return text.empty() || length.empty() ? text + length : length + ", each " + text;
}

template <class T>
template <class U>
void TypedOption<T>::read_any(const OptionValue& value, const std::string& path, U& out) {
  if constexpr (kScalar) {
    if constexpr (std::is_enum_v<Item>) DF_ASSERT(limits_.has_choices(), "{} needs values()", path_);
    limits_.read(value, path, out);
  } else {
    OptionGroup group(path);
    declare(group, out);
    group.read(value);
  }
}

template <class T>
template <class U>
void TypedOption<T>::read_any(const OptionValue& value, const std::string& path, std::optional<U>& out) {
  if (is_absent_option(value)) {
    out.reset();
  } else {
    U inner{};
    read_any(value, path, inner);
    out = std::move(inner);
  }
}

template <class T>
template <class U>
void TypedOption<T>::read_any(const OptionValue& value, const std::string& path, std::vector<U>& out) {
  const bool is_list = value.kind == OptionValue::Kind::kList;
  const size_t count = is_list ? value.items.size() : 1;  // one item may stand without brackets
  if (count < low_length_ || count > high_length_) fail_option_length(value, path, low_length_, high_length_);
  std::vector<U> items;
  for (size_t i = 0; i < count; ++i) {
    U item{};
    read_any(is_list ? value.items[i] : value, is_list ? fmt::format("{}[{}]", path, i) : path, item);
    items.push_back(std::move(item));
  }
  out = std::move(items);
}

template <class T>
template <class U>
OptionValue TypedOption<T>::write_any(U& value) const {
  if constexpr (kScalar) {
    return limits_.write(value);
  } else {
    OptionGroup group(path_);
    declare(group, value);
    return group.write();
  }
}

template <class T>
template <class U>
OptionValue TypedOption<T>::write_any(std::optional<U>& value) const {
  return value ? write_any(*value) : OptionValue();
}

template <class T>
template <class U>
OptionValue TypedOption<T>::write_any(std::vector<U>& value) const {
  OptionValue list;
  list.kind = OptionValue::Kind::kList;
  for (size_t i = 0; i < value.size(); ++i) {
    U item = value[i];  // a copy, because std::vector<bool> has no references
    list.items.push_back(write_any(item));
  }
  return list;
}

template <class T>
auto& OptionGroup::add(const std::string& name, T& target) {
  using Item = typename OptionShape<T>::Item;
  if constexpr (std::is_same_v<T, Item> && !kIsOptionScalar<T>) {
    SectionOption& section = add_section(name);
    declare(*section.section(), target);
    return section;
  } else {
    return static_cast<TypedOption<T>&>(put(std::make_unique<TypedOption<T>>(path_to(name), name, target)));
  }
}

}  // namespace deepflow
