#pragma once

namespace deepflow {

class Cli;
void add_train_command(Cli& cli);

}  // namespace deepflow
