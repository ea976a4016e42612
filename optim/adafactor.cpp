#include "optim/adafactor.h"

#include "kernels/ops/adafactor.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/optimizer_update.h"
#include "optim/piece_state.h"
#include "optim/set_sums.h"
#include "optim/update_tiles.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deepflow {
namespace {

constexpr float kEps = 1e-30f;        // added to squares (epsilon 1)
constexpr double kLeastScale = 1e-3;  // of a parameter (epsilon 2)

using Numbers = SetSums::Numbers;

bool is_factored(const Parameter& p) { return p.spec.shape.num_dims() > 1; }
bool is_factored(const MatrixSet& set) { return is_factored(*set.parameter); }

std::optional<StatePart> vector_moments(const ShardPiece& piece) {
  return is_factored(*piece.parameter) ? std::nullopt : value_per_element(piece);
}

// A number for each row of the matrices (of all their rows), or for each column that this rank has.
std::optional<StatePart> means(const ShardPiece& piece, bool by_row) {
  if (!is_factored(*piece.parameter)) return std::nullopt;
  const Shape& shape = piece.parameter->spec.shape;
  const int dims = shape.num_dims();
  const auto row = static_cast<size_t>(dims - 2), kept = by_row ? row : row + 1;
  Box box = piece.box;
  box.lo = {by_row ? 0 : box.lo[kept]};
  box.hi = {by_row ? shape[dims - 2] : box.hi[kept]};
  const int64_t extent = shape[by_row ? dims - 2 : dims - 1];
  if (dims == 2) return StatePart{{extent}, box, DType::kF32};
  box.lo.insert(box.lo.begin(), piece.box.lo[0]);
  box.hi.insert(box.hi.begin(), piece.box.hi[0]);
  return StatePart{{shape[0], extent}, box, DType::kF32};
}
std::optional<StatePart> row_means(const ShardPiece& piece) { return means(piece, true); }
std::optional<StatePart> col_means(const ShardPiece& piece) { return means(piece, false); }

// A part brings its sums by row, by column and the squares of its values; it takes those of all rows, of its columns,
// and of all values.
std::vector<Numbers> add_squares(const MatrixSet& set, const std::vector<Numbers>& of_parts) {
  const auto rows = static_cast<size_t>(is_factored(set) ? set.rows : 0), cols = rows > 0 ? size_t(set.cols) : 0;
  Numbers by_row(rows), by_col(cols);
  double values = 0;
  for (size_t i = 0; i < set.parts.size(); ++i) {
    const MatrixPart& part = set.parts[i];
    const float* next = of_parts[i].data();
    if (rows > 0) {
      for (int64_t r = part.row_begin; r < part.row_end; ++r) by_row[static_cast<size_t>(r)] += *next++;
      for (int64_t c = part.col_begin; c < part.col_end; ++c) by_col[static_cast<size_t>(c)] += *next++;
    }
    values += static_cast<double>(*next);
  }
  std::vector<Numbers> totals;
  for (const MatrixPart& part : set.parts) {
    Numbers t = by_row;
    if (rows > 0) t.insert(t.end(), by_col.begin() + part.col_begin, by_col.begin() + part.col_end);
    t.push_back(static_cast<float>(values));
    totals.push_back(std::move(t));
  }
  return totals;
}

std::vector<Numbers> add_one_number(const MatrixSet&, const std::vector<Numbers>& of_parts) {
  double sum = 0;
  for (const Numbers& n : of_parts) sum += static_cast<double>(n.front());
  return std::vector<Numbers>(of_parts.size(), Numbers{static_cast<float>(sum)});
}

SetSums::Rule rule_of_squares() {
  return {[](const MatrixSet& set, const MatrixPart& p) { return is_factored(set) ? p.rows() + p.cols() + 1 : 1; },
          [](const MatrixSet& set, const MatrixPart& p) { return is_factored(set) ? set.rows + p.cols() + 1 : 1; },
          add_squares};
}
SetSums::Rule rule_of_one() {
  const auto one = [](const MatrixSet&, const MatrixPart&) { return int64_t{1}; };
  return {one, one, add_one_number};
}

class Adafactor final : public Optimizer {
 public:
  Adafactor(const OptimOptions& options, OptimizerDomain domain)
      : options_(options),
        domain_(std::move(domain)),
        row_(domain_, "adafactor.row", row_means),
        col_(domain_, "adafactor.col", col_means),
        v_(domain_, "adafactor.v", vector_moments),
        sets_(find_matrix_sets(
            domain_, [](const Parameter&) { return true; },
            [](int64_t rows, int64_t cols) { return static_cast<double>(rows + cols); })),
        sums_(sets_, domain_) {}

  void update(const UpdateStep& step) override {
    const std::vector<Numbers> squares = sums_(own_squares(step.gradient_scale), rule_of_squares());
    std::vector<Numbers> lengths;  // of the directions that the gradients become
    for (size_t s = 0; s < sets_.size(); ++s)
      lengths.push_back({static_cast<float>(is_factored(sets_[s]) ? factored(sets_[s], squares[s], step)
                                                                  : whole_moments(sets_[s], step))});
    lengths = sums_(lengths, rule_of_one());
    std::vector<std::vector<double>> steps(domain_.pieces.size());  // of the matrices of each piece
    for (size_t s = 0; s < sets_.size(); ++s)
      steps[sets_[s].piece].push_back(
          step_size(sets_[s], static_cast<double>(squares[s].back()), static_cast<double>(lengths[s].front()), step));
    move_masters(steps, step);
    for (size_t i = 0; i < domain_.pieces.size(); ++i)
      for (PieceState* state : {&row_, &col_, &v_}) state->page_out(i);
  }

  void visit_state(const StateVisitor& visit) override {
    for (PieceState* state : {&row_, &col_, &v_}) state->visit_state(domain_.pieces, visit);
  }

 private:
  float* gradient(const MatrixSet& set) {
    return domain_.store.gradient_piece(domain_.pieces[set.piece]).data<float>() + set.begin;
  }
  double beta2(const UpdateStep& step) const {
    return 1 - std::pow(static_cast<double>(step.step), -options_.adafactor.decay);
  }

  std::vector<Numbers> own_squares(float scale) {
    std::vector<Numbers> result;
    for (const MatrixSet& set : sets_) {
      const MatrixPart& part = set.part();
      Numbers n;
      if (is_factored(set)) {
        n.resize(static_cast<size_t>(part.rows() + part.cols()));
        sum_squares_by_row_and_column(domain_.runtime, {gradient(set), part.rows(), part.cols()}, scale, n.data(),
                                      n.data() + part.rows());
      }
      const Tensor values = domain_.store.master_piece(domain_.pieces[set.piece]);
      n.push_back(static_cast<float>(
          sum_squares(domain_.runtime, values.flat_range(set.begin, set.begin + part.num_elements()))));
      result.push_back(std::move(n));
    }
    return result;
  }

  // Brings the means up to date and turns the gradient into its direction; returns the sum of its squares here.
  double factored(const MatrixSet& set, const Numbers& squares, const UpdateStep& step) {
    const MatrixPart& part = set.part();
    const int64_t matrix = set.begin / part.num_elements();
    float* row = row_.of(set.piece).data<float>() + matrix * set.rows;
    float* col = col_.of(set.piece).data<float>() + matrix * part.cols();
    const float weight = static_cast<float>(1 - beta2(step));
    const auto follow = [&](float* mean, int64_t n, const float* sum, int64_t of) {
      for (int64_t i = 0; i < n; ++i) mean[i] += weight * (sum[i] / static_cast<float>(of) + kEps - mean[i]);
    };
    follow(row, set.rows, squares.data(), set.cols);
    follow(col, part.cols(), squares.data() + set.rows, set.rows);
    const double mean = std::accumulate(row, row + set.rows, 0.0) / static_cast<double>(set.rows);
    Numbers of_row, of_col;
    for (int64_t r = part.row_begin; r < part.row_end; ++r)
      of_row.push_back(step.gradient_scale * static_cast<float>(std::sqrt(mean / static_cast<double>(row[r]))));
    for (int64_t c = 0; c < part.cols(); ++c) of_col.push_back(1 / std::sqrt(col[c]));
    return factored_direction(domain_.runtime, {gradient(set), part.rows(), part.cols()}, of_row.data(), of_col.data());
  }

  double whole_moments(const MatrixSet& set, const UpdateStep& step) {
    return vector_direction(domain_.runtime, static_cast<float>(beta2(step)), step.gradient_scale, kEps,
                            v_.of(set.piece).data<float>() + set.begin, gradient(set), set.part().num_elements());
  }

  double step_size(const MatrixSet& set, double value_squares, double direction_squares, const UpdateStep& step) const {
    const auto n = static_cast<double>(set.rows * set.cols);
    double size = step.lr;
    if (options_.adafactor.relative_step) size = std::min(size, 1 / std::sqrt(static_cast<double>(step.step)));
    if (options_.adafactor.parameter_scale) size *= std::max(kLeastScale, std::sqrt(value_squares / n));
    if (options_.adafactor.clip > 0) size /= std::max(1.0, std::sqrt(direction_squares / n) / options_.adafactor.clip);
    return size;
  }

  void move_masters(const std::vector<std::vector<double>>& steps, const UpdateStep& step) {
    const double decay = 1 - step.lr * options_.weight_decay;
    update_in_tiles(domain_,
                    [&](const PieceRange& r) {
                      const Parameter& p = *domain_.pieces[r.piece].parameter;
                      const std::vector<double>& of_matrix = steps[r.piece];
                      const ShardPiece& piece = domain_.pieces[r.piece];
                      const int64_t size = (piece.end - piece.begin) / static_cast<int64_t>(of_matrix.size());
                      for (int64_t i = 0; i < r.count;) {
                        const int64_t matrix = (r.begin + i) / size;
                        const int64_t n = std::min(r.count - i, (matrix + 1) * size - (r.begin + i));
                        decayed_step(domain_.runtime, decays(p.spec.role) ? decay : 1,
                                     of_matrix[static_cast<size_t>(matrix)], r.master + i, r.gradient + i, n);
                        i += n;
                      }
                    },
                    {});
  }

  OptimOptions options_;
  OptimizerDomain domain_;
  PieceState row_, col_, v_;
  std::vector<MatrixSet> sets_;
  SetSums sums_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adafactor(const OptimOptions& options, OptimizerDomain domain) {
  return std::make_unique<Adafactor>(options, std::move(domain));
}

int64_t adafactor_state_bytes(const OptimOptions&, const ShardPiece& piece) {
  return part_bytes(row_means(piece)) + part_bytes(col_means(piece)) + part_bytes(vector_moments(piece));
}

}  // namespace deepflow
