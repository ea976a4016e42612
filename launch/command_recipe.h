#pragma once

namespace deepflow {

class Cli;

// deepflow recipe check FILE [key=value ...]: reads a recipe as `train` would; --resolved prints it with every key.
// deepflow recipe explain [KEY ...]: what keys mean. deepflow recipe reference: docs/recipe.md.
void add_recipe_command(Cli& cli);

}  // namespace deepflow
