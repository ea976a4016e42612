#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/find_checkpoint.h"
#include "core/error.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <memory>
#include <string>

namespace deepflow {
namespace {

struct PruneArguments {
  std::string dir;
  Retention retention;
  bool dry_run = false;
};

int prune(const PruneArguments& arguments) {
  const std::string dir = find_checkpoint_folder(arguments.dir);
  const PruneReport report = prune_checkpoints(dir, arguments.retention, arguments.dry_run);
  const char* would = arguments.dry_run ? "would be " : "";
  for (const std::string& name : report.removed) fmt::print("{} {}removed\n", name, would);
  fmt::print("{} checkpoint{} {}removed, {} {}freed", report.removed.size(), report.removed.size() == 1 ? "" : "s",
             would, bytes_text(report.freed), would);
  if (report.shared > 0) fmt::print("; {} stay, because remaining ones refer to them", bytes_text(report.shared));
  fmt::print("\n");
  return 0;
}

}  // namespace

void add_ckpt_prune(Cli& cli, CLI::App* ckpt) {
  const auto arguments = std::make_shared<PruneArguments>();
  CLI::App* command = cli.add_command(
      "prune", "remove old checkpoints and leftovers; no run may be writing", [arguments] { return prune(*arguments); },
      ckpt);
  command->add_option("dir", arguments->dir, "folder of checkpoints, or of a run")->required()->type_name("DIR");
  command->add_option("--keep", arguments->retention.keep, "newest that stay")
      ->required()
      ->check(CLI::Range(1, 1 << 30));
  command->add_option("--keep-every", arguments->retention.keep_every, "those of steps that are multiples stay as well")
      ->check(CLI::Range(0, 1 << 30));
  command->add_flag("--dry-run", arguments->dry_run, "only say what would be removed");
}

}  // namespace deepflow
