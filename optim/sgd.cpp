#include "optim/sgd.h"

#include "kernels/ops/optimizer_update.h"
#include "optim/piece_state.h"
#include "optim/update_tiles.h"

namespace deepflow {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(const OptimOptions& options, OptimizerDomain domain)
      : options_(options), domain_(std::move(domain)), momentum_(domain_, "sgd.momentum") {}

  void update(const UpdateStep& step) override {
    SgdStep s{};
    s.lr = step.lr;
    s.momentum = options_.momentum;
    s.nesterov = options_.nesterov;
    s.first = step.step == 1;
    s.gradient_scale = step.gradient_scale;
    s.weight_decay = options_.weight_decay;
    const SgdRange decaying(domain_.runtime, s);
    s.weight_decay = 0;
    const SgdRange plain(domain_.runtime, s);
    update_in_tiles(domain_,
                    [&](const PieceRange& r) {
                      const SgdRange& update_range =
                          decays(domain_.pieces[r.piece].parameter->spec.role) ? decaying : plain;
                      update_range(r.master, momentum_.of(r.piece).data<float>() + r.begin, r.gradient, r.count);
                    },
                    {&momentum_});
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

int64_t sgd_state_bytes(const OptimOptions&, const ShardPiece& piece) { return part_bytes(value_per_element(piece)); }

}  // namespace deepflow
