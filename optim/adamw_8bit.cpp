#include "optim/adamw_8bit.h"

#include "core/error.h"
#include "kernels/ops/adamw_8bit.h"
#include "optim/piece_state.h"
#include "optim/update_tiles.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kSmallestBlock = 8;  // optim.block

bool is_quantised(const Parameter& p) {
  const Role role = p.spec.role;
  return p.spec.shape.num_dims() > 1 &&
         (role == Role::kMatrix || role == Role::kExpert || role == Role::kRouter || role == Role::kHead);
}

int64_t blocks_of(int64_t cols, int64_t block) { return (cols + block - 1) / block; }

std::optional<StatePart> plain_moment(const ShardPiece& piece) {
  if (is_quantised(*piece.parameter)) return std::nullopt;
  return value_per_element(piece);
}

std::optional<StatePart> codes(const ShardPiece& piece) {
  if (!is_quantised(*piece.parameter)) return std::nullopt;
  return StatePart{piece.parameter->spec.shape, piece.box, DType::kU8};
}

// One a block: columns count blocks.
StatePartOf scales(int64_t block) {
  return [block](const ShardPiece& piece) -> std::optional<StatePart> {
    if (!is_quantised(*piece.parameter)) return std::nullopt;
    const ParameterSpec& spec = piece.parameter->spec;
    StatePart part{spec.shape, piece.box, DType::kF32};
    const int last = spec.shape.num_dims() - 1;
    part.shape = last == 1 ? Shape{spec.shape[0], blocks_of(spec.shape[1], block)}
                           : Shape{spec.shape[0], spec.shape[1], blocks_of(spec.shape[2], block)};
    part.box.lo.back() /= block;
    part.box.hi.back() = blocks_of(part.box.hi.back(), block);
    return part;
  };
}

void check_cuts(const Parameter& p, int64_t block) {
  const int64_t lo = p.boxes.front().lo.back(), hi = p.boxes.front().hi.back(), cols = p.spec.shape.cols();
  if (lo % block == 0 && (hi % block == 0 || hi == cols)) return;
  int64_t fits = block;
  while (lo % fits != 0 || (hi % fits != 0 && hi != cols)) fits /= 2;
  throw ConfigError(
      "optim.block: {} columns of {} that are quantised together would lie on two ranks (this one has columns {} to {} "
      "of {}); take {}another parallel.tp",
      block, p.spec.name, lo, hi, cols, fits < kSmallestBlock ? "" : fmt::format("optim.block: {} or ", fits));
}

class Adamw8bit final : public Optimizer {
 public:
  Adamw8bit(const OptimOptions& options, OptimizerDomain domain)
      : options_(options),
        domain_(std::move(domain)),
        signed_(true),
        unsigned_(false),
        m_(domain_, "adamw8bit.m", plain_moment),
        v_(domain_, "adamw8bit.v", plain_moment),
        m_codes_(domain_, "adamw8bit.m_codes", codes),
        root_codes_(domain_, "adamw8bit.root_codes", codes),
        m_scales_(domain_, "adamw8bit.m_scales", scales(options.block)),
        root_scales_(domain_, "adamw8bit.root_scales", scales(options.block)) {
    for (const Parameter& p : domain_.store.registry().parameters())
      if (p.pack->local && is_quantised(p)) check_cuts(p, options.block);
  }

  void update(const UpdateStep& step) override {
    const AdamwStep s{step.lr,   options_.beta1,     options_.beta2, options_.eps, options_.weight_decay,
                      step.step, step.gradient_scale};
    AdamwStep without_decay = s;
    without_decay.weight_decay = 0;
    const AdamwRange decaying(domain_.runtime, s), plain(domain_.runtime, without_decay);
    const Adamw8bitBlock update_block(domain_.runtime, s, signed_, unsigned_);
    update_in_tiles(domain_,
                    [&](const PieceRange& r) {
                      const Parameter& p = *domain_.pieces[r.piece].parameter;
                      if (is_quantised(p))
                        update_blocks(update_block, r, p.local_shape.cols());
                      else
                        (decays(p.spec.role) ? decaying : plain)(r.master, m_.of(r.piece).data<float>() + r.begin,
                                                                 v_.of(r.piece).data<float>() + r.begin, r.gradient,
                                                                 r.count);
                    },
                    {&m_, &v_, &m_codes_, &root_codes_, &m_scales_, &root_scales_});
  }

  void visit_state(const StateVisitor& visit) override {
    for (PieceState* state : {&m_, &v_, &m_codes_, &root_codes_, &m_scales_, &root_scales_})
      state->visit_state(domain_.pieces, visit);
  }

 private:
  // r: whole rows, or a part of one that begins and ends between blocks.
  void update_blocks(const Adamw8bitBlock& update_block, const PieceRange& r, int64_t cols) {
    const int64_t of_row = blocks_of(cols, options_.block);
    for (int64_t i = 0; i < r.count;) {
      const int64_t row = (r.begin + i) / cols, col = (r.begin + i) % cols;
      const int64_t n = std::min({options_.block, cols - col, r.count - i}), at = row * of_row + col / options_.block;
      update_block(
          r.master + i,
          {m_codes_.of(r.piece).data<uint8_t>() + r.begin + i, root_codes_.of(r.piece).data<uint8_t>() + r.begin + i,
           m_scales_.of(r.piece).data<float>() + at, root_scales_.of(r.piece).data<float>() + at},
          r.gradient + i, n);
      i += n;
    }
  }

  OptimOptions options_;
  OptimizerDomain domain_;
  DynamicMap signed_, unsigned_;
  PieceState m_, v_, m_codes_, root_codes_, m_scales_, root_scales_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw_8bit(const OptimOptions& options, OptimizerDomain domain) {
  return std::make_unique<Adamw8bit>(options, std::move(domain));
}

int64_t adamw_8bit_state_bytes(const OptimOptions& options, const ShardPiece& piece) {
  return 2 * (part_bytes(plain_moment(piece)) + part_bytes(codes(piece)) + part_bytes(scales(options.block)(piece)));
}

}  // namespace deepflow
