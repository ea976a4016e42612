#pragma once

#include "core/error.h"
#include "core/option_value.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// The keys of a recipe without their types; declare() functions include option.h.

namespace deepflow {

class OptionGroup;

// One key of a recipe, without its type.
class Option {
 public:
  Option(std::string path, std::string name) : path_(std::move(path)), name_(std::move(name)) {}
  virtual ~Option() = default;
  Option(const Option&) = delete;
  Option& operator=(const Option&) = delete;

  const std::string& path() const { return path_; }  // "optim.lr"
  const std::string& name() const { return name_; }  // "lr"
  const std::string& help_text() const { return help_; }
  const std::string& unit_text() const { return unit_; }
  const std::string& source_text() const { return source_; }
  const std::string& absent_text() const { return absent_; }
  const std::string& default_text() const { return default_; }  // as YAML; what it was when it was declared
  bool is_required() const { return required_; }
  const OptionPlace& place() const { return place_; }  // where the recipe gave it
  bool given() const { return place_.origin != nullptr; }

  void read_from(const OptionValue& value, const OptionPlace& place);  // read(), and remembers the place

  virtual OptionValue write() const = 0;
  virtual std::string type_text() const = 0;                   // "number", "list of {store, weight}"
  virtual std::string range_text() const = 0;                  // "0 to 10", "one of a, b" or ""
  virtual const OptionGroup* keys() const { return nullptr; }  // of a map, or of one item of a list of maps
  virtual OptionGroup* section() const { return nullptr; }     // not null: a map that the recipe holds exactly once

 protected:
  virtual void read(const OptionValue& value) = 0;

  std::string path_, name_, help_, unit_, source_, absent_, default_;
  bool required_ = false;
  OptionPlace place_;
};

// A key whose value is a map with keys of its own.
class SectionOption final : public Option {
 public:
  SectionOption(std::string path, std::string name);
  ~SectionOption() override;
  SectionOption& help(std::string text) { return help_ = std::move(text), *this; }

  OptionValue write() const override;
  std::string type_text() const override { return "map"; }
  std::string range_text() const override { return ""; }
  const OptionGroup* keys() const override { return group_.get(); }
  OptionGroup* section() const override { return group_.get(); }

 protected:
  void read(const OptionValue& value) override;

 private:
  std::unique_ptr<OptionGroup> group_;
};

// The keys of one map. Holds references to the members it was declared with and must not outlive them.
class OptionGroup {
 public:
  using Check = std::function<void(const OptionGroup&)>;
  struct Variant {
    std::string key, value;
    std::unique_ptr<OptionGroup> group;
  };

  explicit OptionGroup(std::string path = "") : path_(std::move(path)) {}
  OptionGroup(const OptionGroup&) = delete;
  OptionGroup& operator=(const OptionGroup&) = delete;

  // A key for `target`: returns TypedOption<T>&, or SectionOption& when T is a struct with a declare() of its own.
  template <class T>
  auto& add(const std::string& name, T& target);
  // A map below this one whose keys the caller adds to the returned option's section().
  SectionOption& add_section(const std::string& name);
  // Keys that exist only while the option `key` of this group, already declared, has the value `value`
  // (model.family). They are written beside `key`, at the same level.
  OptionGroup& variant(const std::string& key, const std::string& value);
  // A scalar in place of this map fills `key` (train: a.h5 stands for train: {store: a.h5}).
  void short_form(const std::string& key) { short_form_ = key; }
  // Runs after this group and everything below it was read; calls fail() or throws ConfigError.
  void check(Check check) { checks_.push_back(std::move(check)); }

  // Sets the members from a map (null: an empty one), then demands required keys and runs the checks.
  void read(const OptionValue& map);
  OptionValue write() const;  // every key, with its help as comment

  // Throws "file:line: path.key message"; `key` is relative to this group and may be dotted ("optim.lr").
  template <class... A>
  [[noreturn]] void fail(const std::string& key, fmt::format_string<A...> f, A&&... a) const {
    fail_text(key, fmt::format(f, std::forward<A>(a)...));
  }
  bool given(const std::string& key) const;             // the recipe says it; false: it has its default
  const Option* find(const std::string& dotted) const;  // also in variants that are not active; null: no such key
  const std::string& path() const { return path_; }
  const std::string& short_form() const { return short_form_; }
  const std::vector<std::unique_ptr<Option>>& options() const { return options_; }
  const std::vector<Variant>& variants() const { return variants_; }

 private:
  Option& put(std::unique_ptr<Option> option);
  Option* own(const std::string& name) const;
  bool active(const Variant& variant) const;
  void read_entries(const OptionValue& map);
  void read_rest(const std::vector<const OptionEntry*>& rest, const OptionPlace& whole);
  void finish(const OptionPlace& whole);
  [[noreturn]] void unknown_key(const OptionEntry& entry) const;
  [[noreturn]] void fail_text(const std::string& key, const std::string& message) const;
  std::string path_to(const std::string& name) const { return path_.empty() ? name : path_ + "." + name; }

  std::string path_, short_form_;
  const OptionGroup* root_ = this;  // of the whole recipe, to look for a key that stands at the wrong level
  std::vector<std::unique_ptr<Option>> options_;
  std::vector<Variant> variants_;
  std::vector<Check> checks_;
};

}  // namespace deepflow
