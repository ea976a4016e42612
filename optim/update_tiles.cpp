#include "optim/update_tiles.h"

#include <algorithm>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kFlatElements = 64 * 1024;  // of a task without panels
constexpr int64_t kTileColumns = 1024;        // 64 rows of master, moments and gradient stay in a core's cache
constexpr size_t kTasksOfAGroup = 64;         // of offloaded state: at most 16 MiB of each moment in memory at once

// Part of one piece: flat, or a tile of rows and columns whose panels are written as well.
struct Task {
  size_t piece;
  int64_t begin, count;          // of a flat one
  int64_t row, rows, col, cols;  // of a tile; rows of the pack
};

struct PackPlan {
  WeightPanels panels;
  int64_t members = 0;  // that are in the domain whole, at a multiple of kPanelBlock rows
};

bool is_whole_and_aligned(const ShardPiece& piece) {
  const Parameter& p = *piece.parameter;
  const Pack& pack = *p.pack;
  const int64_t elements = p.local_shape.num_elements(), rows = elements / pack.cols;
  const bool last = p.pack_offset + elements == pack.rows * pack.cols;
  return piece.end - piece.begin == elements && p.pack_offset % (kPanelBlock * pack.cols) == 0 &&
         (rows % kPanelBlock == 0 || last);
}

// By pack id; packs whose panels cannot be written have none.
std::vector<PackPlan> plan_packs(OptimizerDomain& domain) {
  std::vector<PackPlan> plans(domain.store.registry().packs().size());
  for (const ShardPiece& piece : domain.pieces)
    if (is_whole_and_aligned(piece)) ++plans[static_cast<size_t>(piece.parameter->pack->id)].members;
  for (Pack& pack : domain.store.registry().packs()) {
    PackPlan& plan = plans[static_cast<size_t>(pack.id)];
    if (plan.members == static_cast<int64_t>(pack.members.size())) plan.panels = domain.store.panels(pack);
  }
  return plans;
}

// Whole rows of a matrix.
void add_flat(std::vector<Task>& tasks, size_t index, const ShardPiece& piece) {
  const Shape& shape = piece.parameter->local_shape;
  const int64_t row = shape.num_dims() < 2 ? 1 : shape.cols(), count = piece.end - piece.begin;
  const int64_t step = std::max<int64_t>(1, kFlatElements / row) * row;
  for (int64_t begin = 0; begin < count; begin += step)
    tasks.push_back({index, begin, std::min(step, count - begin), 0, 0, 0, 0});
}

void add_tiles(std::vector<Task>& tasks, size_t index, const Parameter& p) {
  const int64_t cols = p.pack->cols, first = p.pack_offset / cols, rows = p.local_shape.num_elements() / cols;
  const int64_t cuts = (cols + kTileColumns - 1) / kTileColumns, blocks = cols / kPanelBlock;
  for (int64_t row = 0; row < rows; row += kPanelBlock)
    for (int64_t cut = 0; cut < cuts; ++cut) {
      const int64_t col = blocks * cut / cuts * kPanelBlock, end = blocks * (cut + 1) / cuts * kPanelBlock;
      tasks.push_back({index, 0, 0, first + row, std::min(kPanelBlock, rows - row), col, end - col});
    }
}

struct Arrays {
  Tensor master, gradient;
};

void update_range(const Arrays& of, size_t piece, int64_t begin, int64_t count, const UpdateRange& update) {
  update({piece, begin, count, of.master.data<float>() + begin, of.gradient.data<float>() + begin});
}

void update_tile(const Task& t, const Parameter& p, const Arrays& arrays, const UpdateRange& update) {
  const int64_t cols = p.pack->cols, begin = t.row * cols + t.col - p.pack_offset;
  if (t.cols == cols) {
    update_range(arrays, t.piece, begin, t.rows * cols, update);
    return;
  }
  for (int64_t r = 0; r < t.rows; ++r) update_range(arrays, t.piece, begin + r * cols, t.cols, update);
}

void page_out(const std::vector<PieceState*>& states, size_t first_piece, size_t last_piece) {
  for (PieceState* state : states)
    for (size_t i = first_piece; i <= last_piece; ++i) state->page_out(i);
}

// Where state is offloaded, in groups, so that the pieces of one can be paged out behind it.
void run_tasks(OptimizerDomain& domain, const std::vector<Task>& tasks, const std::function<void(const Task&)>& run,
               const std::vector<PieceState*>& states) {
  const bool offloaded = std::any_of(states.begin(), states.end(), [](auto* s) { return s->is_offloaded(); });
  const size_t group = offloaded ? kTasksOfAGroup : std::max<size_t>(1, tasks.size());
  for (size_t first = 0; first < tasks.size(); first += group) {
    const size_t count = std::min(group, tasks.size() - first);
    domain.runtime.pool().parallel_for_dynamic(static_cast<int64_t>(count),
                                               [&](int64_t i) { run(tasks[first + static_cast<size_t>(i)]); });
    if (offloaded) page_out(states, tasks[first].piece, tasks[first + count - 1].piece);
  }
}

Arrays arrays_of(OptimizerDomain& domain, size_t piece) {
  return {domain.store.master_piece(domain.pieces[piece]), domain.store.gradient_piece(domain.pieces[piece])};
}

}  // namespace

void for_each_range(OptimizerDomain& domain, const std::function<bool(const ShardPiece&)>& selects,
                    const UpdateRange& visit, const std::vector<PieceState*>& states) {
  std::vector<Task> tasks;
  std::vector<Arrays> arrays;
  for (size_t i = 0; i < domain.pieces.size(); ++i) {
    arrays.push_back(arrays_of(domain, i));
    if (selects(domain.pieces[i])) add_flat(tasks, i, domain.pieces[i]);
  }
  run_tasks(
      domain, tasks, [&](const Task& t) { update_range(arrays[t.piece], t.piece, t.begin, t.count, visit); }, states);
}

void update_in_tiles(OptimizerDomain& domain, const UpdateRange& update, const std::vector<PieceState*>& states) {
  const std::vector<PackPlan> plans = plan_packs(domain);
  const auto plan_of = [&](size_t piece) -> const PackPlan& {
    return plans[static_cast<size_t>(domain.pieces[piece].parameter->pack->id)];
  };
  std::vector<Task> tasks;
  std::vector<Arrays> arrays;
  for (size_t i = 0; i < domain.pieces.size(); ++i) {
    arrays.push_back(arrays_of(domain, i));
    if (plan_of(i).panels.any())
      add_tiles(tasks, i, *domain.pieces[i].parameter);
    else
      add_flat(tasks, i, domain.pieces[i]);
  }
  const auto run = [&](const Task& t) {
    if (t.cols == 0) {
      update_range(arrays[t.piece], t.piece, t.begin, t.count, update);
      return;
    }
    const Parameter& p = *domain.pieces[t.piece].parameter;
    update_tile(t, p, arrays[t.piece], update);
    write_panels(domain.runtime, domain.store.master(*p.pack).data<float>(), plan_of(t.piece).panels, t.row, t.rows,
                 t.col, t.cols);
  };
  run_tasks(domain, tasks, run, states);
  for (Pack& pack : domain.store.registry().packs())
    domain.store.written(pack, plans[static_cast<size_t>(pack.id)].panels.any());
}

}  // namespace deepflow
