#pragma once

namespace deepflow {

class Cli;

// deepflow schedule show --name NAME --pp P --vp V --micro-batches M [--costs F,B,W] [--trace FILE] [--out FILE.svg]:
// a pipeline schedule as the simulator runs it, beside what a run measured. deepflow schedule list: the names.
void add_schedule_command(Cli& cli);

}  // namespace deepflow
