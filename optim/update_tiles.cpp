#include "optim/update_tiles.h"

#include <algorithm>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kFlatElements = 64 * 1024;  // of a task without panels
constexpr int64_t kTileColumns = 1024;        // 64 rows of master, moments and gradient stay in a core's cache

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

void add_flat(std::vector<Task>& tasks, size_t index, int64_t count) {
  for (int64_t begin = 0; begin < count; begin += kFlatElements)
    tasks.push_back({index, begin, std::min(kFlatElements, count - begin), 0, 0, 0, 0});
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

void update_tile(const Task& t, const Parameter& p, const UpdateRange& update) {
  const int64_t cols = p.pack->cols, begin = t.row * cols + t.col - p.pack_offset;
  if (t.cols == cols) {
    update(t.piece, begin, t.rows * cols);
    return;
  }
  for (int64_t r = 0; r < t.rows; ++r) update(t.piece, begin + r * cols, t.cols);
}

}  // namespace

void update_in_tiles(OptimizerDomain& domain, const UpdateRange& update) {
  const std::vector<PackPlan> plans = plan_packs(domain);
  const auto plan_of = [&](size_t piece) -> const PackPlan& {
    return plans[static_cast<size_t>(domain.pieces[piece].parameter->pack->id)];
  };
  std::vector<Task> tasks;
  for (size_t i = 0; i < domain.pieces.size(); ++i) {
    if (plan_of(i).panels.any())
      add_tiles(tasks, i, *domain.pieces[i].parameter);
    else
      add_flat(tasks, i, domain.pieces[i].end - domain.pieces[i].begin);
  }
  domain.runtime.pool().parallel_for_dynamic(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const Task& t = tasks[static_cast<size_t>(i)];
    if (t.cols == 0) {
      update(t.piece, t.begin, t.count);
      return;
    }
    const Parameter& p = *domain.pieces[t.piece].parameter;
    update_tile(t, p, update);
    write_panels(domain.runtime, domain.store.master(*p.pack).data<float>(), plan_of(t.piece).panels, t.row, t.rows,
                 t.col, t.cols);
  });
  for (Pack& pack : domain.store.registry().packs())
    domain.store.written(pack, plans[static_cast<size_t>(pack.id)].panels.any());
}

}  // namespace deepflow
