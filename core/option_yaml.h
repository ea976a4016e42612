#pragma once

#include "core/option_value.h"

#include <string>
#include <vector>

namespace deepflow {

// Recipes as YAML. The text may be hostile: at most 1 MiB, 32 levels and 20,000 values (aliases count as often as
// they are used); one document; keys are text and stand once. Every error is a ConfigError of one line with the line
// number. `origin` names the text in messages; `lines` says whether line numbers in it mean something.
OptionValue parse_yaml(const std::string& text, const std::string& origin, bool lines = true);
OptionValue read_yaml_file(const std::string& file);

// Applies "optim.lr=1e-3" from the command line: the value is YAML and replaces whatever the recipe says there.
void apply_override(OptionValue& recipe, const std::string& assignment);

// Null is written as `none`.
std::string to_yaml(const OptionValue& map, bool comments);  // block style, one key a line
std::string to_flow_yaml(const OptionValue& value);          // one line

}  // namespace deepflow
