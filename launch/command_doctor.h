#pragma once

namespace deepflow {

class Cli;

// deepflow doctor [--json]: what this machine, or all machines of a job under mpirun or srun, give to work with. See
// engine/doctor.h.
void add_doctor_command(Cli& cli);

}  // namespace deepflow
