#include "launch/recipe.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace deepflow {
namespace {

TEST(Recipe, ReferencePageIsCurrent) {
  std::ostringstream page;
  page << std::ifstream(DEEPFLOW_SOURCE "/docs/recipe.md").rdbuf();
  EXPECT_EQ(page.str(), recipe_reference()) << "run: deepflow recipe reference > docs/recipe.md";
}

}  // namespace
}  // namespace deepflow
