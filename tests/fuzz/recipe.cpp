// A recipe, and after the first zero byte the overrides of a command line, each behind another.
#include "launch/recipe.h"

#include "core/option_yaml.h"
#include "tests/fuzz/fuzz.h"

#include <filesystem>

namespace deepflow::fuzz {

void run_input(std::string_view bytes) {
  size_t end = std::min(bytes.find('\0'), bytes.size());
  OptionValue tree = parse_yaml(std::string(bytes.substr(0, end)), "recipe.yaml");
  while (end < bytes.size()) {
    const size_t begin = end + 1;
    end = std::min(bytes.find('\0', begin), bytes.size());
    apply_override(tree, std::string(bytes.substr(begin, end - begin)));
  }
  Recipe recipe;
  recipe.keys.read(tree);
  const std::string resolved = recipe.resolved(true);
  Recipe again;
  again.keys.read(parse_yaml(resolved, "resolved.yaml"));
  expect(again.resolved(true) == resolved, "a resolved recipe is read back as it is");
  if (recipe.model.init_from.empty()) recipe.model.fill_in(256, 128, recipe.keys.find("model")->keys());
}

std::vector<std::string> seeds(const std::string& source) {
  std::vector<std::string> all;
  for (const auto& file : std::filesystem::directory_iterator(source + "/examples")) {
    if (file.path().extension() != ".yaml") continue;
    const std::string text = content_of(file.path());
    all.push_back(text);
    Recipe recipe;
    recipe.keys.read(parse_yaml(text, file.path()));
    all.push_back(recipe.resolved(false));
  }
  using namespace std::string_literals;
  all.push_back(all.front() + "\0optim.lr=1e-3\0train={steps: 5}\0data.train=[a, b]"s);
  all.push_back(all.front() + "\0model.width=4611686018427387904\0data.sequence=9223372036854775807"s);
  return all;
}

}  // namespace deepflow::fuzz
