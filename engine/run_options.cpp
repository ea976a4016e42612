#include "engine/run_options.h"

#include "core/option.h"

namespace deepflow {

void declare(OptionGroup& group, RunOptions& o) {
  group.add("model", o.model).help("what is trained");
  group.add("data", o.data).help("token stores, and how samples are cut from them");
  group.add("train", o.train).help("length, batch and precision");
  group.add("optim", o.optim).help("optimizer and learning rate");
  group.add("parallel", o.parallel).help("how the work is split over ranks; what is left over is data parallel");
  group.add("generate", o.generate).help("sampling");
  group.add("log", o.log).help("progress and traces");
  group.add("run", o.run).help("where results go");
}

}  // namespace deepflow
