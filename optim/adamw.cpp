#include "optim/adamw.h"

#include "kernels/ops/optimizer_update.h"
#include "optim/piece_state.h"
#include "optim/update_tiles.h"

namespace deepflow {
namespace {

class Adamw final : public Optimizer {
 public:
  Adamw(const OptimOptions& options, OptimizerDomain domain)
      : options_(options), domain_(std::move(domain)), m_(domain_, "adamw.m"), v_(domain_, "adamw.v") {}

  void update(const UpdateStep& step) override {
    AdamwStep s{};
    s.lr = step.lr;
    s.beta1 = options_.beta1;
    s.beta2 = options_.beta2;
    s.eps = options_.eps;
    s.step = step.step;
    s.gradient_scale = step.gradient_scale;
    s.weight_decay = options_.weight_decay;
    const AdamwRange decaying(domain_.runtime, s);
    s.weight_decay = 0;
    const AdamwRange plain(domain_.runtime, s);
    update_in_tiles(domain_,
                    [&](const PieceRange& r) {
                      const AdamwRange& update_range =
                          decays(domain_.pieces[r.piece].parameter->spec.role) ? decaying : plain;
                      update_range(r.master, m_.of(r.piece).data<float>() + r.begin,
                                   v_.of(r.piece).data<float>() + r.begin, r.gradient, r.count);
                    },
                    {&m_, &v_});
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

int64_t adamw_state_bytes(const OptimOptions&, const ShardPiece& piece) {
  return 2 * part_bytes(value_per_element(piece));
}

}  // namespace deepflow
