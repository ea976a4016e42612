#include "launch/recipe.h"

#include "core/error.h"

#include <cstdio>

// Reads a recipe, changes a key and prints what came of it.
int main(int, char** argv) {
  try {
    const auto recipe = deepflow::read_recipe(argv[1], {"train.steps=7"});
    std::printf("%s\n%d steps\n", recipe->model.family.c_str(), static_cast<int>(recipe->train.steps));
    return recipe->train.steps == 7 ? 0 : 1;
  } catch (const deepflow::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
