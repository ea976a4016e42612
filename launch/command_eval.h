#pragma once

namespace deepflow {

class Cli;
void add_eval_command(Cli& cli);

}  // namespace deepflow
