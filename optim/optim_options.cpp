#include "optim/optim_options.h"

#include "optim/learning_rate.h"
#include "optim/optimizer.h"

namespace deepflow {

void declare(OptionGroup& group, OptimOptions& o) {
  group.add("name", o.name).help("optimizer").one_of(optimizer_names());
  group.add("lr", o.lr).help("peak learning rate").range(0, 100);
  group.add("schedule", o.schedule)
      .help(
          "learning rate over the run: linear warm-up, then cosine, linear, constant, or constant with a linear decay "
          "at the end (wsd)")
      .one_of(learning_rate_schedules())
      .source("cosine: Loshchilov & Hutter 2017; wsd: Hu et al. 2024 (MiniCPM), section 4");
  group.add("warmup", o.warmup).help("linear warm-up from 0").unit("steps").at_least(0);
  group.add("decay", o.decay).help("length of the final decay of wsd").unit("steps").at_least(0);
  group.add("final_lr", o.final_lr).help("learning rate of the last step, as a fraction of lr").range(0, 1);
  group.add("beta1", o.beta1).help("AdamW: decay of the first moment").range(0, 1).source("Loshchilov & Hutter 2019");
  group.add("beta2", o.beta2).help("AdamW: decay of the second moment").range(0, 1).source("Loshchilov & Hutter 2019");
  group.add("eps", o.eps).help("AdamW: added to the root of the second moment").range(0, 1);
  group.add("momentum", o.momentum).help("SGD: momentum").range(0, 1);
  group.add("nesterov", o.nesterov).help("SGD: Nesterov momentum");
  group.add("weight_decay", o.weight_decay)
      .help("decoupled decay of matrices and embeddings; norms and biases have none")
      .range(0, 10);
  group.add("clip", o.clip)
      .help("largest global gradient norm; larger gradients are scaled down to it; 0 turns clipping off")
      .at_least(0)
      .source("Pascanu et al. 2013");
  group.add("loss_scale", o.loss_scale).help("Dynamic loss scale, with train.precision=f16 only.");
}

}  // namespace deepflow
