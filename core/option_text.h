#pragma once

#include "core/option_group.h"

#include <string>

namespace deepflow {

// What one key means: help, type, unit, default, range, values and source, a line each; of a map, its keys.
// Throws ConfigError "optim.clipp is not a key; did you mean optim.clip?". An empty key lists the sections.
std::string explain_option(const OptionGroup& root, const std::string& key);

// Every key of every section as a Markdown page with one table a section; `title` and `preamble` stand at its top.
std::string reference_markdown(const OptionGroup& root, const std::string& title, const std::string& preamble);

}  // namespace deepflow
