#pragma once

namespace deepflow {

class Cli;
void add_data_command(Cli& cli);

}  // namespace deepflow
