#include "optim/sgd.h"

#include "kernels/ops/optimizer_update.h"
#include "optim/piece_state.h"

namespace deepflow {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(const OptimOptions& options, OptimizerDomain domain)
      : options_(options), domain_(std::move(domain)), momentum_(domain_.runtime, "sgd.momentum", domain_.pieces) {}

  void update(const UpdateStep& step) override {
    SgdStep s{};
    s.lr = step.lr;
    s.momentum = options_.momentum;
    s.nesterov = options_.nesterov;
    s.first = step.step == 1;
    s.gradient_scale = step.gradient_scale;
    for (size_t i = 0; i < domain_.pieces.size(); ++i) {
      const ShardPiece& piece = domain_.pieces[i];
      const Bucket& bucket = domain_.store.buckets()[static_cast<size_t>(piece.bucket)];
      s.weight_decay = decays(piece.parameter->spec.role) ? options_.weight_decay : 0;
      Tensor master = piece_of(bucket.master, piece);
      sgd_update(domain_.runtime, s, master, momentum_.of(i), piece_of(bucket.grad, piece));
    }
  }

  void visit_state(const StateVisitor& visit) override { momentum_.visit_state(domain_.pieces, visit); }

 private:
  OptimOptions options_;
  OptimizerDomain domain_;
  PieceState momentum_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const OptimOptions& options, OptimizerDomain domain) {
  return std::make_unique<Sgd>(options, std::move(domain));
}

}  // namespace deepflow
