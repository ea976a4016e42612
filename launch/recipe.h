#pragma once

#include "core/option.h"
#include "engine/run_options.h"

#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// A recipe file as it was read: every section (engine/run_options.h) and the keys that filled it.
struct Recipe : RunOptions {
  Recipe();  // the defaults; required keys are empty

  OptionGroup keys;  // of the sections: where each was given, for messages. Does not outlive this object.

  // The recipe as YAML with every key, which read_recipe reads back as the same recipe; saved with each run.
  std::string resolved(bool comments) const;
};

// Reads a recipe file, puts `key=value` overrides on top and checks the whole. Throws ConfigError, one line.
std::unique_ptr<Recipe> read_recipe(const std::string& file, const std::vector<std::string>& overrides);

std::string explain_recipe_key(const std::string& key);  // see core/option_text.h
std::string recipe_reference();                          // the content of docs/recipe.md

}  // namespace deepflow
