#include "engine/train_options.h"

namespace deepflow {

void declare(OptionGroup& group, TrainOptions& o) {
  group.add("steps", o.steps).help("optimizer steps of the run").at_least(0);
  group.add("global_batch", o.global_batch).help("sequences of one step, over all ranks").unit("sequences").at_least(1);
  group.add("micro_batch", o.micro_batch)
      .help("sequences of one forward and backward pass on one rank; gradients of the passes of a step are summed")
      .unit("sequences")
      .at_least(1)
      .when_absent("the largest that fits");
  group.add("precision", o.precision)
      .help(
          "of operands and activations; masters, moments, statistics and the residual stream are f32. int8: as bf16, "
          "but the products of the blocks with weights are int8, forward and for the input gradient (experimental). "
          "f16: with a dynamic loss scale, optim.loss_scale; slow on CPUs, which have no f16 products")
      .one_of({"f32", "bf16", "f16", "int8"});
  group.add("seed", o.seed).help("of initial values, data order and dropout");
  group.add("threads", o.threads)
      .help(
          "compute threads of a rank; 0: the cores it may use, shared with the host's other "
          "ranks")
      .range(0, 4096);
  group.add("pin_threads", o.pin_threads)
      .help(
          "each compute thread stays on one CPU, where the threads of the host's ranks fill the CPUs that they may "
          "use");
  group.add("weight_forms", o.weight_forms)
      .help(
          "packed copies of the weights that stay between steps; all: for both products that read them; forward: the "
          "input gradient's is made for each use, which saves 2 bytes a parameter; auto: all, where two thirds of the "
          "rank's share of the memory hold what that takes")
      .one_of({"auto", "all", "forward"});
  group.add("memory_budget", o.memory_budget)
      .help("memory that model.recompute auto may fill")
      .unit("GB a rank")
      .above(0)
      .when_absent("two thirds of the rank's share of the host's memory");
  group.add("cpu_isa", o.cpu_isa)
      .help("instruction set of the CPU kernels; auto: the best of this machine")
      .one_of({"auto", "avx2", "avx512", "avx512_bf16"});
  group.add("eval_every", o.eval_every)
      .help("steps between evaluations of data.heldout; 0: before and after the run only")
      .unit("steps")
      .at_least(0);
  group.add("eval_windows", o.eval_windows)
      .help("windows of data.heldout that an evaluation reads; 0: all")
      .unit("sequences")
      .at_least(0);
  group.add("offload_optimizer", o.offload_optimizer)
      .help("folder for a file that holds the optimizer state instead of memory; it ends with the run")
      .when_absent("in memory");
  group.add("bucket_elements", o.bucket_elements)
      .help("gradients that are exchanged together")
      .unit("elements")
      .at_least(1024);
}

void declare(OptionGroup& group, LogOptions& o) {
  group.add("every", o.every)
      .help("steps between progress lines where stdout is no terminal")
      .unit("steps")
      .at_least(1);
  group.add("tensorboard", o.tensorboard).help("write TensorBoard event files into run.dir/tensorboard");
  group.add("trace_from", o.trace_from)
      .help("first step of a Chrome / Perfetto trace of all ranks, run.dir/trace.json; 0: no trace")
      .at_least(0);
  group.add("trace_steps", o.trace_steps).help("steps in the trace").unit("steps").at_least(1);
  group.add("comm_bytes", o.comm_bytes)
      .help("write into metrics.jsonl how many bytes all ranks sent along each axis of the layout in a step");
}

void declare(OptionGroup& group, RunFolderOptions& o) {
  group.add("dir", o.dir).help("folder for the resolved recipe, metrics, trace and the trained model");
}

}  // namespace deepflow
