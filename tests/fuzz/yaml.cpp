// YAML of any form: what is read and written again is read as the same.
#include "core/option_yaml.h"
#include "tests/fuzz/fuzz.h"

namespace deepflow::fuzz {
namespace {

using Kind = OptionValue::Kind;

bool same(const OptionValue& a, const OptionValue& b) {
  if (a.kind == Kind::kNull) return b.kind == Kind::kScalar && b.text == "none";
  if (a.kind != b.kind || a.text != b.text) return false;
  if (a.items.size() != b.items.size() || a.entries.size() != b.entries.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!same(a.items[i], b.items[i])) return false;
  for (size_t i = 0; i < a.entries.size(); ++i)
    if (a.entries[i].key != b.entries[i].key || !same(a.entries[i].value, b.entries[i].value)) return false;
  return true;
}

}  // namespace

void run_input(std::string_view bytes) {
  const OptionValue value = parse_yaml(std::string(bytes), "input.yaml");
  expect(same(value, parse_yaml(to_yaml(value, false), "written")), "YAML is kept");
  expect(same(value, parse_yaml(to_flow_yaml(value), "flow")), "flow YAML is kept");
}

std::vector<std::string> seeds(const std::string&) {
  return {"a: 1\nb: [x, 'y', \"z\\n\"]\nc: {d: none, e: ~}\n",
          "a: &x {k: v}\nb: *x\nc: |\n  text\n  more\nd: >-\n  folded\n\n  text\n",
          "- 1\n- - a\n  - b\n- ? key\n  : value\n# comment\n", "---\n!!str a: !t b\n...\n", "a: \"\\u00e9\\x41\"\n"};
}

}  // namespace deepflow::fuzz
