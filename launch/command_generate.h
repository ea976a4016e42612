#pragma once

namespace deepflow {

class Cli;
void add_generate_command(Cli& cli);

}  // namespace deepflow
