#include "launch/command_ckpt.h"

#include "launch/cli.h"

namespace deepflow {

void add_ckpt_command(Cli& cli) {
  CLI::App* ckpt = cli.add_command("ckpt", "checkpoints: look, verify, compare, convert, remove", nullptr);
  for (const auto add : {add_ckpt_list, add_ckpt_show, add_ckpt_verify, add_ckpt_diff, add_ckpt_reshard,
                         add_ckpt_convert, add_ckpt_prune, add_ckpt_serve_stats})
    add(cli, ckpt);
}

}  // namespace deepflow
