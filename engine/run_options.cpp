#include "engine/run_options.h"

#include "core/option.h"

namespace deepflow {

void declare(OptionGroup& group, RunOptions& o) {
  group.add("model", o.model).help("What is trained: a family of transformers and its extents.");
  group.add("data", o.data).help("What it learns from: token stores and how samples are cut from them.");
  group.add("train", o.train).help("How long, in which batches and in which precision.");
  group.add("optim", o.optim).help("Optimizer and learning rate.");
  group.add("parallel", o.parallel).help("How the ranks share the work; those left over are data parallel.");
  group.add("generate", o.generate).help("How text is sampled.");
  group.add("checkpoint", o.checkpoint).help("What is kept so that a run can go on where it stopped.");
  group.add("log", o.log).help("What a run reports while it goes.");
  group.add("run", o.run).help("Where it leaves what it makes.");
}

}  // namespace deepflow
