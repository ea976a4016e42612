#pragma once

#include "core/option.h"

#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// Everything that a run is told. A section is one member here and one line in the constructor; what its keys mean
// stands beside its own struct, in the folder that it configures.
struct Recipe {
  Recipe();  // the defaults; required keys are empty

  OptionGroup keys;  // of the members above: where each was given, for messages. Does not outlive this object.

  // The recipe as YAML with every key, which read_recipe reads back as the same recipe; saved with each run.
  std::string resolved(bool comments) const;
};

// Reads a recipe file, puts `key=value` overrides on top and checks the whole. Throws ConfigError, one line.
std::unique_ptr<Recipe> read_recipe(const std::string& file, const std::vector<std::string>& overrides);

std::string explain_recipe_key(const std::string& key);  // see core/option_text.h
std::string recipe_reference();                          // the content of docs/recipe.md

}  // namespace deepflow
