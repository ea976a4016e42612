#include "optim/optim_options.h"

#include "optim/learning_rate.h"
#include "optim/optimizer.h"

namespace deepflow {

void declare(OptionGroup& group, MuonOptions& o) {
  group.add("momentum", o.momentum).help("decay of the momentum").range(0, 1);
  group.add("nesterov", o.nesterov).help("Nesterov momentum");
  group.add("steps", o.steps).help("Newton-Schulz iterations").range(1, 20).source("Jordan et al. 2024");
  group.add("scale", o.scale)
      .help(
          "factor of the update of an [out, in] matrix: moonlight 0.2 sqrt(max(out, in)), with which learning rates "
          "and "
          "decay of AdamW fit; jordan sqrt(max(1, out / in)), for learning rates around 0.02")
      .one_of({"moonlight", "jordan"})
      .source("Liu et al. 2025 (Moonlight), section 2.2; Jordan et al. 2024");
  group.add("precision", o.precision)
      .help("operands of the iteration's products; auto: bf16 where train.precision computes in it, else f32")
      .one_of({"auto", "f32", "bf16"});
  group.add("adamw_lr", o.adamw_lr)
      .help("learning rate of what AdamW updates (embeddings, heads, norms, biases), as a fraction of lr")
      .range(0, 100);
}

void declare(OptionGroup& group, AdafactorOptions& o) {
  group.add("decay", o.decay)
      .help("the second moments of step t decay by 1 - t^-decay")
      .range(0, 10)
      .source("Shazeer & Stern 2018, section 7.2");
  group.add("clip", o.clip)
      .help("largest root mean square of a matrix's update in units of the step; 0 turns clipping off")
      .at_least(0)
      .source("Shazeer & Stern 2018, section 6");
  group.add("parameter_scale", o.parameter_scale)
      .help("steps are relative to the root mean square of the matrix, or 1e-3 where that is less")
      .source("Shazeer & Stern 2018, section 8");
  group.add("relative_step", o.relative_step)
      .help("the learning rate of step t is at most 1 / sqrt(t)")
      .source("Shazeer & Stern 2018, section 9");
}

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
  group.add("beta1", o.beta1)
      .help("AdamW: decay of the first moment; Lion: weight of the momentum in a step")
      .range(0, 1)
      .source("Loshchilov & Hutter 2019");
  group.add("beta2", o.beta2)
      .help("AdamW: decay of the second moment; Lion: decay of the momentum")
      .range(0, 1)
      .source("Loshchilov & Hutter 2019");
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
  group.add("qk_clip", o.qk_clip)
      .help(
          "with any optimizer: the largest score of attention, scale * q . k; after a step query and key weights of "
          "each head that exceeded it are scaled back to it; 100 is usual, 0 turns it off")
      .at_least(0)
      .source("Kimi K2, arXiv 2507.20534, section 2.1");
  group.add("block", o.block)
      .help(
          "adamw8bit: neighbouring elements of a row that share a scale; columns of a matrix on a rank must be a "
          "multiple")
      .one_of({8, 16, 32, 64})
      .source("Dettmers et al. 2022, section 2.1");
  group.add("muon", o.muon).help("Muon's own.");
  group.add("adafactor", o.adafactor).help("Adafactor's own.");
  group.add("loss_scale", o.loss_scale).help("Dynamic loss scale, with train.precision=f16 only.");
}

}  // namespace deepflow
