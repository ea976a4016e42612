#include "optim/lion.h"

#include "kernels/ops/optimizer_update.h"
#include "optim/piece_state.h"
#include "optim/update_tiles.h"

namespace deepflow {
namespace {

class Lion final : public Optimizer {
 public:
  Lion(const OptimOptions& options, OptimizerDomain domain)
      : options_(options), domain_(std::move(domain)), m_(domain_, "lion.m") {}

  void update(const UpdateStep& step) override {
    LionStep s{step.lr, options_.beta1, options_.beta2, options_.weight_decay, step.gradient_scale};
    const LionRange decaying(domain_.runtime, s);
    s.weight_decay = 0;
    const LionRange plain(domain_.runtime, s);
    update_in_tiles(domain_,
                    [&](const PieceRange& r) {
                      const LionRange& update_range =
                          decays(domain_.pieces[r.piece].parameter->spec.role) ? decaying : plain;
                      update_range(r.master, m_.of(r.piece).data<float>() + r.begin, r.gradient, r.count);
                    },
                    {&m_});
  }

  void visit_state(const StateVisitor& visit) override { m_.visit_state(domain_.pieces, visit); }

 private:
  OptimOptions options_;
  OptimizerDomain domain_;
  PieceState m_;
};

}  // namespace

std::unique_ptr<Optimizer> make_lion(const OptimOptions& options, OptimizerDomain domain) {
  return std::make_unique<Lion>(options, std::move(domain));
}

int64_t lion_state_bytes(const OptimOptions&, const ShardPiece& piece) { return part_bytes(value_per_element(piece)); }

}  // namespace deepflow
