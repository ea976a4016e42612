#include "optim/adamw.h"

#include "kernels/ops/optimizer_update.h"
#include "optim/piece_state.h"

namespace deepflow {
namespace {

class Adamw final : public Optimizer {
 public:
  Adamw(const OptimOptions& options, OptimizerDomain domain)
      : options_(options),
        domain_(std::move(domain)),
        m_(domain_.runtime, "adamw.m", domain_.pieces),
        v_(domain_.runtime, "adamw.v", domain_.pieces) {}

  void update(const UpdateStep& step) override {
    AdamwStep s{};
    s.lr = step.lr;
    s.beta1 = options_.beta1;
    s.beta2 = options_.beta2;
    s.eps = options_.eps;
    s.step = step.step;
    s.gradient_scale = step.gradient_scale;
    for (size_t i = 0; i < domain_.pieces.size(); ++i) {
      const ShardPiece& piece = domain_.pieces[i];
      const Bucket& bucket = domain_.store.buckets()[static_cast<size_t>(piece.bucket)];
      s.weight_decay = decays(piece.parameter->spec.role) ? options_.weight_decay : 0;
      Tensor master = piece_of(bucket.master, piece);
      adamw_update(domain_.runtime, s, master, m_.of(i), v_.of(i), piece_of(bucket.grad, piece));
    }
  }

  void visit_state(const StateVisitor& visit) override {
    m_.visit_state(domain_.pieces, visit);
    v_.visit_state(domain_.pieces, visit);
  }

 private:
  OptimOptions options_;
  OptimizerDomain domain_;
  PieceState m_, v_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const OptimOptions& options, OptimizerDomain domain) {
  return std::make_unique<Adamw>(options, std::move(domain));
}

}  // namespace deepflow
