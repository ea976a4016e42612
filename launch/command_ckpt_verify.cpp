#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/find_checkpoint.h"
#include "checkpoint/blockstore/verify.h"
#include "core/error.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

constexpr int kDamaged = 1;  // exit code

struct VerifyArguments {
  std::string path;
  int threads = available_cores();
  size_t most = 100;
  bool json = false;
};

// One, or all of a folder.
std::vector<std::string> checkpoints_at(const std::string& path) {
  if (is_checkpoint(path)) return {path};
  std::vector<std::string> paths;
  const std::string dir = find_checkpoint_folder(path);
  for (const FoundCheckpoint& found : list_checkpoints(dir)) paths.push_back(found.path);
  if (paths.empty()) return {find_checkpoint(path)};  // which says why there is none
  return paths;
}

int verify(const VerifyArguments& arguments) {
  const ThreadPool pool(arguments.threads);
  nlohmann::json all = nlohmann::json::array();
  bool is_whole = true;
  for (const std::string& path : checkpoints_at(arguments.path)) {
    const auto begin = std::chrono::steady_clock::now();
    const VerifyReport report = verify_checkpoint(path, arguments.most, &pool);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    is_whole = is_whole && report.is_whole();
    all.push_back({{"path", path},
                   {"whole", report.is_whole()},
                   {"damages", report.damages},
                   {"blocks", report.blocks},
                   {"bytes_read", report.bytes_read},
                   {"seconds", seconds}});
    if (arguments.json) continue;
    for (const std::string& damage : report.damages) fmt::print("{}\n", damage);
    const std::string what = report.is_whole() ? "whole" : fmt::format("DAMAGED ({} found)", report.damages.size());
    fmt::print("{}: {}; {} blocks, {} read in {:.2f} s\n", path, what, report.blocks, bytes_text(report.bytes_read),
               seconds);
  }
  if (arguments.json) print_json(all);
  return is_whole ? 0 : kDamaged;
}

}  // namespace

void add_ckpt_verify(Cli& cli, CLI::App* ckpt) {
  const auto arguments = std::make_shared<VerifyArguments>();
  CLI::App* command = cli.add_command(
      "verify", "read every block and compare it with its digest; exit code 1: damaged",
      [arguments] { return verify(*arguments); }, ckpt);
  command->add_option("checkpoint", arguments->path, "a checkpoint, or a folder of them: all")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_option("--threads", arguments->threads, "threads")->capture_default_str()->check(CLI::Range(1, 4096));
  command->add_option("--most", arguments->most, "lines of damage a checkpoint")->capture_default_str();
  command->add_flag("--json", arguments->json, "for programs");
}

}  // namespace deepflow
