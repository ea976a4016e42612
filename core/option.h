#pragma once

#include "core/option_group.h"
#include "core/option_scalar.h"

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// Typed options, declared once beside the struct they fill:
//
//   struct OptimOptions { double lr = 3e-4; std::string schedule = "warmup_cosine"; std::optional<double> clip; };
//   void declare(OptionGroup& group, OptimOptions& o) {
//     group.add("lr", o.lr).help("peak learning rate").range(0, 10);
//     group.add("schedule", o.schedule).help("shape of the learning rate").one_of({"warmup_cosine", "linear"});
//     group.add("clip", o.clip).help("global gradient norm").above(0).when_absent("no clipping").source("...");
//   }
//
// Parsing with line numbers, defaults (the values that the members hold when they are declared), ranges, help, the
// reference page and the resolved recipe all come from that function. A member may be a bool, int, int64_t, uint64_t,
// float, double, std::string, an enum with a table of values, a struct with a declare() of its own, or a std::optional
// or std::vector of these. Every error is a ConfigError of one line: file:line, key, what was expected, what was given.

namespace deepflow {

std::string inline_option_text(const OptionValue& value);  // as one line of YAML
[[noreturn]] void fail_option_length(const OptionValue& value, const std::string& path, size_t low, size_t high);
std::string length_option_text(size_t low, size_t high);  // "2 items", "" when any length is allowed
std::string item_option_text(const OptionGroup& group);   // "{store, weight}"
bool is_absent_option(const OptionValue& value);          // null or a plain `none`

template <class T>
struct OptionShape {  // what stands below std::optional and std::vector
  using Item = T;
  static constexpr bool is_list = false, is_optional = false;
};
template <class T>
struct OptionShape<std::optional<T>> {
  using Item = typename OptionShape<T>::Item;
  static constexpr bool is_list = OptionShape<T>::is_list, is_optional = true;
};
template <class T>
struct OptionShape<std::vector<T>> {
  static_assert(!OptionShape<T>::is_list && !OptionShape<T>::is_optional, "an option is a flat list");
  using Item = T;
  static constexpr bool is_list = true, is_optional = false;
};

template <class T>
inline constexpr bool kIsOptionScalar = std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, std::string>;

// A key that fills `T& target`. The setters describe it; limits hold for each item of a list.
template <class T>
class TypedOption final : public Option {
 public:
  using Item = typename OptionShape<T>::Item;
  static constexpr bool kScalar = kIsOptionScalar<Item>;

  TypedOption(std::string path, std::string name, T& target);

  TypedOption& help(std::string text) { return help_ = std::move(text), *this; }
  TypedOption& unit(std::string text) { return unit_ = std::move(text), *this; }      // "tokens", "s"
  TypedOption& source(std::string text) { return source_ = std::move(text), *this; }  // paper, section
  TypedOption& required() { return required_ = true, *this; }
  // What it means that there is no value: null or `none` for a std::optional, and then for a text too, where it is "".
  TypedOption& when_absent(std::string text);

  TypedOption& range(Item low, Item high) { return limits_.range(low, high), *this; }  // both ends are allowed
  TypedOption& at_least(Item low) { return limits_.at_least(low), *this; }
  TypedOption& at_most(Item high) { return limits_.at_most(high), *this; }
  TypedOption& above(Item low) { return limits_.above(low), *this; }
  TypedOption& below(Item high) { return limits_.below(high), *this; }
  TypedOption& one_of(std::vector<Item> items) { return limits_.one_of(std::move(items)), *this; }
  // The names of an enum's values; an enum option needs it.
  TypedOption& values(std::vector<std::pair<std::string, Item>> table);
  TypedOption& length(size_t low, size_t high) { return low_length_ = low, high_length_ = high, *this; }  // of a list

  OptionValue write() const override;
  std::string type_text() const override;
  std::string range_text() const override;
  const OptionGroup* keys() const override { return example_ ? example_->group.get() : nullptr; }

 protected:
  void read(const OptionValue& value) override;

 private:
  struct Example {  // an item that shows which keys an item has
    Item item{};
    std::unique_ptr<OptionGroup> group;
  };
  struct NoLimits {};

  template <class U>
  void read_any(const OptionValue& value, const std::string& path, U& out);
  template <class U>
  void read_any(const OptionValue& value, const std::string& path, std::optional<U>& out);
  template <class U>
  void read_any(const OptionValue& value, const std::string& path, std::vector<U>& out);
  template <class U>
  OptionValue write_any(U& value) const;
  template <class U>
  OptionValue write_any(std::optional<U>& value) const;
  template <class U>
  OptionValue write_any(std::vector<U>& value) const;

  T& target_;
  std::conditional_t<kScalar, OptionLimits<Item>, NoLimits> limits_;
  std::unique_ptr<Example> example_;
  size_t low_length_ = 0, high_length_ = SIZE_MAX;
};

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
TypedOption<T>& TypedOption<T>::when_absent(std::string text) {
  absent_ = std::move(text);
  if constexpr (std::is_same_v<T, std::string>) default_ = inline_option_text(write());
  return *this;
}

template <class T>
OptionValue TypedOption<T>::write() const {
  if constexpr (std::is_same_v<T, std::string>) {
    if (!absent_.empty() && target_.empty()) return {};
  }
  return write_any(target_);
}

template <class T>
std::string TypedOption<T>::type_text() const {
  const std::string item = kScalar ? option_type_text<Item>() : item_option_text(*keys());
  const std::string shape = OptionShape<T>::is_list ? "list of " + item : item;
  const bool may_be_absent = OptionShape<T>::is_optional || (std::is_same_v<T, std::string> && !absent_.empty());
  return may_be_absent ? shape + ", or none" : shape;
}

template <class T>
std::string TypedOption<T>::range_text() const {
  std::string text;
  if constexpr (kScalar) text = limits_.text();
  const std::string length = length_option_text(low_length_, high_length_);
  return text.empty() || length.empty() ? text + length : length + ", each " + text;
}

template <class T>
void TypedOption<T>::read(const OptionValue& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    if (!absent_.empty() && is_absent_option(value)) return target_.clear();
  }
  read_any(value, path_, target_);
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
