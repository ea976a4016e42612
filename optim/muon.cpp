#include "optim/muon.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/newton_schulz.h"
#include "kernels/ops/optimizer_update.h"
#include "optim/matrix_sets.h"
#include "optim/piece_state.h"
#include "optim/update_tiles.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr int64_t kF32Bytes = 4;

bool is_muons(const Parameter& p) {
  const Role role = p.spec.role;
  return p.spec.shape.num_dims() > 1 && (role == Role::kMatrix || role == Role::kExpert || role == Role::kRouter);
}

std::optional<StatePart> of_muon(const ShardPiece& piece) {
  return is_muons(*piece.parameter) ? value_per_element(piece) : std::nullopt;
}
std::optional<StatePart> of_adamw(const ShardPiece& piece) {
  return is_muons(*piece.parameter) ? std::nullopt : value_per_element(piece);
}

double iteration_work(int64_t rows, int64_t cols) {
  const double side = static_cast<double>(std::min(rows, cols));
  return side * side * (4 * static_cast<double>(std::max(rows, cols)) + 2 * side);
}

DType precision_of(const MuonOptions& options, DType compute) {
  if (options.precision == "auto") return compute == DType::kBF16 ? DType::kBF16 : DType::kF32;
  return options.precision == "bf16" ? DType::kBF16 : DType::kF32;
}

double update_scale(const MuonOptions& options, const Shape& shape) {
  const auto rows = static_cast<double>(shape[shape.num_dims() - 2]), cols = static_cast<double>(shape.cols());
  return options.scale == "moonlight" ? 0.2 * std::sqrt(std::max(rows, cols)) : std::sqrt(std::max(1.0, rows / cols));
}

// A matrix that is split, at its owner.
struct Whole {
  Tensor matrix;
  std::vector<Tensor> parts;  // by number in the set; undefined where the part is the owner's
};

Tensor block_of(const Tensor& matrix, const MatrixPart& part) {
  return matrix.row_range(part.row_begin, part.row_end).column_range(part.col_begin, part.col_end);
}

class Muon final : public Optimizer {
 public:
  Muon(const OptimOptions& options, OptimizerDomain domain)
      : options_(options),
        domain_(std::move(domain)),
        precision_(precision_of(options.muon, domain_.store.compute())),
        momentum_(domain_, "muon.momentum", of_muon),
        m_(domain_, "muon.adamw_m", of_adamw),
        v_(domain_, "muon.adamw_v", of_adamw),
        sets_(find_matrix_sets(domain_, is_muons, iteration_work)) {
    for (const MatrixSet& set : sets_)
      if (set.is_split()) split_.push_back(&set);
    std::stable_sort(split_.begin(), split_.end(), [](auto* a, auto* b) { return a->turn < b->turn; });
    if (domain_.domains) comm_ = domain_.domains->world().duplicate("matrices of the optimizer");
  }

  void update(const UpdateStep& step) override {
    mix_momentum(step);
    orthogonalise();
    move_masters(step);
  }

  void visit_state(const StateVisitor& visit) override {
    for (PieceState* state : {&momentum_, &m_, &v_}) state->visit_state(domain_.pieces, visit);
  }

 private:
  const Parameter& parameter(size_t piece) const { return *domain_.pieces[piece].parameter; }

  // The gradients of Muon's matrices become what is to be orthogonalised.
  void mix_momentum(const UpdateStep& step) {
    const MomentumRange mix(domain_.runtime, options_.muon.momentum, options_.muon.nesterov, step.gradient_scale);
    for_each_range(
        domain_, [](const ShardPiece& piece) { return is_muons(*piece.parameter); },
        [&](const PieceRange& r) { mix(momentum_.of(r.piece).data<float>() + r.begin, r.gradient, r.count); },
        {&momentum_});
  }

  Tensor own_part(const MatrixSet& set) {
    const MatrixPart& part = set.part();
    return domain_.store.gradient_piece(domain_.pieces[set.piece])
        .flat_range(set.begin, set.begin + part.num_elements())
        .view({part.rows(), part.cols()});
  }

  void iterate(Tensor& matrix) { newton_schulz(domain_.runtime, matrix, options_.muon.steps, precision_); }

  // Parts of the next turn travel while this one's are worked on. All ranks post in the order of turns.
  void orthogonalise() {
    std::vector<WorkPtr> pending;
    int64_t turns = 0;
    for (const MatrixSet* set : split_) turns = std::max(turns, set->turn + 1);
    std::vector<std::vector<Whole>> wholes(static_cast<size_t>(turns));
    WorkPtr gathering = turns > 0 ? gather(0, wholes[0]) : nullptr;
    for (const MatrixSet& set : sets_) {
      if (set.is_split()) continue;
      Tensor matrix = own_part(set);
      iterate(matrix);
    }
    for (int64_t turn = 0; turn < turns; ++turn) {
      const WorkPtr ready = std::exchange(
          gathering, turn + 1 < turns ? gather(turn + 1, wholes[static_cast<size_t>(turn + 1)]) : nullptr);
      if (ready) ready->wait_host();
      if (WorkPtr returning = work_and_return(turn, wholes[static_cast<size_t>(turn)]))
        pending.push_back(std::move(returning));
    }
    for (const WorkPtr& work : pending) work->wait_host();
  }

  // f(set, whole) for this rank's sets of a turn; whole: at the owner, else null.
  template <class F>
  void for_turn(int64_t turn, std::vector<Whole>& wholes, F&& f) {
    size_t owned = 0;
    for (const MatrixSet* set : split_)
      if (set->turn == turn) f(*set, set->owner == set->part().rank ? &wholes[owned++] : nullptr);
  }

  WorkPtr gather(int64_t turn, std::vector<Whole>& wholes) {
    std::vector<PointToPoint> messages;
    wholes.resize(static_cast<size_t>(std::count_if(
        split_.begin(), split_.end(), [&](auto* set) { return set->turn == turn && set->owner == set->part().rank; })));
    for_turn(turn, wholes, [&](const MatrixSet& set, Whole* whole) {
      if (!whole) {
        messages.push_back({set.owner, true, own_part(set)});
        return;
      }
      whole->parts.resize(set.parts.size());
      for (size_t i = 0; i < set.parts.size(); ++i) {
        if (i == set.mine) continue;
        const MatrixPart& part = set.parts[i];
        whole->parts[i] = Tensor::empty(domain_.runtime.memory(), {part.rows(), part.cols()}, DType::kF32);
        messages.push_back({part.rank, false, whole->parts[i]});
      }
    });
    return messages.empty() ? nullptr : comm_->batch(messages, "matrices to their owners");
  }

  WorkPtr work_and_return(int64_t turn, std::vector<Whole>& wholes) {
    std::vector<PointToPoint> messages;
    for_turn(turn, wholes, [&](const MatrixSet& set, Whole* whole) {
      Tensor mine = own_part(set);
      if (!whole) {
        messages.push_back({set.owner, false, mine});
        return;
      }
      whole->matrix = Tensor::empty(domain_.runtime.memory(), {set.rows, set.cols}, DType::kF32);
      const auto of_part = [&](size_t i) -> Tensor& { return i == set.mine ? mine : whole->parts[i]; };
      for (size_t i = 0; i < set.parts.size(); ++i) {
        Tensor block = block_of(whole->matrix, set.parts[i]);
        copy(domain_.runtime, of_part(i), block);
      }
      iterate(whole->matrix);
      for (size_t i = 0; i < set.parts.size(); ++i) {
        copy(domain_.runtime, block_of(whole->matrix, set.parts[i]), of_part(i));
        if (i != set.mine) messages.push_back({set.parts[i].rank, true, whole->parts[i]});
      }
    });
    wholes.clear();  // messages keep what they send
    return messages.empty() ? nullptr : comm_->batch(messages, "matrices from their owners");
  }

  void move_masters(const UpdateStep& step) {
    AdamwStep s{step.lr * options_.muon.adamw_lr,
                options_.beta1,
                options_.beta2,
                options_.eps,
                options_.weight_decay,
                step.step,
                step.gradient_scale};
    const AdamwRange decaying(domain_.runtime, s);
    s.weight_decay = 0;
    const AdamwRange plain(domain_.runtime, s);
    update_in_tiles(
        domain_,
        [&](const PieceRange& r) {
          const Parameter& p = parameter(r.piece);
          if (is_muons(p)) {
            decayed_step(domain_.runtime, 1 - step.lr * options_.weight_decay,
                         step.lr * update_scale(options_.muon, p.spec.shape), r.master, r.gradient, r.count);
            return;
          }
          (decays(p.spec.role) ? decaying : plain)(r.master, m_.of(r.piece).data<float>() + r.begin,
                                                   v_.of(r.piece).data<float>() + r.begin, r.gradient, r.count);
        },
        {&m_, &v_});
  }

  OptimOptions options_;
  OptimizerDomain domain_;
  DType precision_;
  PieceState momentum_, m_, v_;
  std::vector<MatrixSet> sets_;
  std::vector<const MatrixSet*> split_;  // of those, by turn
  std::unique_ptr<Communicator> comm_;
};

}  // namespace

std::unique_ptr<Optimizer> make_muon(const OptimOptions& options, OptimizerDomain domain) {
  return std::make_unique<Muon>(options, std::move(domain));
}

int64_t muon_update_bytes(const OptimOptions& options, DType compute, const std::vector<ShardPiece>& pieces) {
  const DType precision = precision_of(options.muon, compute);
  int64_t most = 0;
  for (const ShardPiece& piece : pieces) {
    if (!is_muons(*piece.parameter)) continue;
    const Shape& shape = piece.parameter->spec.shape;
    const int64_t rows = shape[shape.num_dims() - 2], cols = shape.cols();
    const int64_t matrices = shape.num_dims() > 2 ? piece.box.hi[0] - piece.box.lo[0] : 1;
    const int64_t others = rows * cols - (piece.end - piece.begin) / matrices;
    // Its own, put together, and the parts of others, of this turn's and the next one's.
    const int64_t travelling = others > 0 ? kF32Bytes * (rows * cols + 2 * others) : 0;
    most = std::max(most, travelling + newton_schulz_bytes(rows, cols, precision));
  }
  return most;
}

int64_t muon_state_bytes(const OptimOptions&, const ShardPiece& piece) {
  return part_bytes(of_muon(piece)) + 2 * part_bytes(of_adamw(piece));
}

}  // namespace deepflow
