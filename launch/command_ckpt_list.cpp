#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/find_checkpoint.h"
#include "core/error.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace deepflow {
namespace {

struct ListArguments {
  std::string dir;
  bool json = false;
};

// A line of the list.
struct Listed {
  FoundCheckpoint found;
  std::string damage;  // of manifest or index: nothing else is read
  StoredSize size;
  std::string layout, lossy;
  size_t writers = 0;
};

Listed look_at(const FoundCheckpoint& found) {
  Listed listed{found, "", {}, "", "", 0};
  try {
    const StoredCheckpoint checkpoint(found.path);
    listed.size = stored_size(checkpoint);
    listed.layout = layout_text(run_of(checkpoint.manifest()));
    listed.lossy = lossy_text(checkpoint.manifest());
    listed.writers = checkpoint.manifest().files.size();
  } catch (const DataError& e) {
    listed.damage = e.what();
  }
  return listed;
}

void print_text(const std::string& dir, const std::vector<Listed>& all, const std::vector<Leftover>& leftovers) {
  if (all.empty()) fmt::print("{}: no checkpoint\n", dir);
  if (!all.empty())
    fmt::print("{:>10} {:>10} {:>10} {:>10} {:>6}  {:<10} {}\n", "step", "raw", "stored", "shared", "ratio", "age",
               "written by");
  for (const Listed& c : all) {
    if (!c.damage.empty()) {
      fmt::print("{:>10} DAMAGED: {}\n", c.found.step, c.damage);
      continue;
    }
    const std::string writers =
        c.layout.empty() ? fmt::format("{} writer{}", c.writers, c.writers == 1 ? "" : "s") : c.layout;
    fmt::print("{:>10} {:>10} {:>10} {:>10} {:>6.3f}  {:<10} {}{}{}\n", c.found.step, bytes_text(c.size.raw),
               bytes_text(c.size.own), bytes_text(c.size.shared), c.size.ratio(), age_text(age_of(c.found.path)),
               writers, c.lossy.empty() ? "" : "  " + c.lossy, &c == &all.back() ? "  <- latest" : "");
  }
  for (const Leftover& l : leftovers) fmt::print("{} ({}): {}\n", l.name, bytes_text(l.bytes), l.what);
}

nlohmann::json json_of(const Listed& c, bool is_latest) {
  nlohmann::json json = {{"step", c.found.step}, {"path", c.found.path}, {"latest", is_latest}};
  if (!c.damage.empty()) {
    json["damage"] = c.damage;
    return json;
  }
  json["size"] = json_of(c.size);
  json["writers"] = c.writers;
  json["layout"] = c.layout;
  json["lossy"] = !c.lossy.empty();
  json["age"] = age_of(c.found.path);
  return json;
}

int list(const ListArguments& arguments) {
  const std::string dir = find_checkpoint_folder(arguments.dir);
  std::vector<Listed> all;
  for (const FoundCheckpoint& found : list_checkpoints(dir)) all.push_back(look_at(found));
  const std::vector<Leftover> leftovers = list_leftovers(dir);
  if (!arguments.json) {
    print_text(dir, all, leftovers);
    return 0;
  }
  nlohmann::json json = {{"checkpoints", nlohmann::json::array()}, {"leftovers", nlohmann::json::array()}};
  for (const Listed& c : all) json["checkpoints"].push_back(json_of(c, &c == &all.back()));
  for (const Leftover& l : leftovers)
    json["leftovers"].push_back({{"name", l.name}, {"what", l.what}, {"bytes", l.bytes}});
  print_json(json);
  return 0;
}

}  // namespace

void add_ckpt_list(Cli& cli, CLI::App* ckpt) {
  const auto arguments = std::make_shared<ListArguments>();
  CLI::App* command = cli.add_command(
      "list", "the checkpoints of a run", [arguments] { return list(*arguments); }, ckpt);
  command->add_option("dir", arguments->dir, "folder of checkpoints, or of a run")->required()->type_name("DIR");
  command->add_flag("--json", arguments->json, "for programs");
}

}  // namespace deepflow
