#include "checkpoint/checkpoint_options.h"

#include "core/option.h"

namespace deepflow {

void declare(OptionGroup& group, CheckpointOptions& o) {
  group.add("dir", o.dir).help("folder for the checkpoints of the run").when_absent("run.dir/checkpoints");
  group.add("every", o.every)
      .help("steps between checkpoints; there is also one behind the last step; 0: no checkpoints")
      .unit("steps")
      .at_least(0);
  group.add("keep", o.keep).help("newest checkpoints that stay; 0: all").at_least(0);
  group.add("keep_every", o.keep_every)
      .help("checkpoints of steps that are multiples of it stay as well; 0: none")
      .unit("steps")
      .at_least(0);
  group.add("resume", o.resume)
      .help(
          "auto: from the newest whole checkpoint in checkpoint.dir, if there is one; never; or the folder of a "
          "checkpoint");
  group.add("codec", o.codec)
      .help("how blocks are compressed; auto: as a sample of each tensor says; all are lossless")
      .one_of({"auto", "raw", "zstd", "planes"});
  group.add("differences", o.differences)
      .help("store what changed since the checkpoint before, where that is smaller by 15 % or more");
  group.add("async", o.async).help("write behind the next steps, from a copy of the state in memory");
  group.add("threads", o.threads).help("threads of a rank that compress and write").range(1, 256);
}

}  // namespace deepflow
