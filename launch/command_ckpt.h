#pragma once

namespace CLI {
class App;
}

namespace deepflow {

class Cli;

// deepflow ckpt list | show | verify | diff | reshard | convert | prune | serve-stats (docs/checkpoints.md). Each is a
// file, command_ckpt_NAME.cpp.
void add_ckpt_command(Cli& cli);

void add_ckpt_list(Cli& cli, CLI::App* ckpt);
void add_ckpt_show(Cli& cli, CLI::App* ckpt);
void add_ckpt_verify(Cli& cli, CLI::App* ckpt);
void add_ckpt_diff(Cli& cli, CLI::App* ckpt);
void add_ckpt_reshard(Cli& cli, CLI::App* ckpt);
void add_ckpt_convert(Cli& cli, CLI::App* ckpt);
void add_ckpt_prune(Cli& cli, CLI::App* ckpt);
void add_ckpt_serve_stats(Cli& cli, CLI::App* ckpt);

}  // namespace deepflow
