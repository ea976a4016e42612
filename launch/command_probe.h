#pragma once

namespace deepflow {

class Cli;

// deepflow probe --init DIR --tokens FILE [--grads] --out FILE.safetensors: logits, loss and gradients of a model, so
// that anyone can compare DeepFlow with another implementation. See launch/probe.h.
void add_probe_command(Cli& cli);

}  // namespace deepflow
