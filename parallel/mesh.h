#pragma once

#include "core/parameter.h"
#include "parallel/communicator.h"
#include "parallel/parallel_options.h"

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

struct AxisSize {
  std::string name;
  int size;  // 0, for at most one axis: the ranks that the others leave
};

// Sizes with the 0 filled in. Throws ConfigError with the arithmetic, and the nearest layouts, when they do not fit.
std::vector<AxisSize> fit_layout(std::vector<AxisSize> axes, int num_ranks);

// Two grids over the same ranks. Axes from the outermost, whose ranks are far apart, to the innermost, whose ranks are
// neighbours. A micro-batch hop is rare, a tensor-parallel sum is not.
struct Layout {
  // pp pipeline stages, dr and ds batch (dp = dr x ds: replicas of groups of ds ranks over which ZeRO shards), cp
  // sequence, tp matrices.
  std::vector<AxisSize> axes;
  // How the ranks of a stage share experts (Megatron-Core's folding, Liu et al. 2025, arXiv 2504.14960): pp, er and es
  // (ranks with the same part of the same experts: replicas of groups over which ZeRO shards), ep experts, etp their
  // matrices.
  std::vector<AxisSize> expert_axes;
};

// Throws ConfigError with the arithmetic, and what would do.
Layout layout_of(const ParallelOptions& options, int num_ranks);

inline const std::vector<std::string> kDataAxes = {"dr", "ds"};  // ranks with different samples

// The ranks of the job as a grid with named axes; rank = ((i_0 * size_1 + i_1) * size_2 + i_2) ..., the first axis
// outermost. Experts have a grid of their own over the same ranks, which agrees with the other on the axes that are in
// both. Collective: all ranks of `world` make the same meshes, and ask for new sets of axes in the same order.
class Mesh {
 public:
  // `world` must outlive the mesh. Sizes as fit_layout returns them; an axis that is not named has size 1.
  Mesh(Communicator& world, Layout layout);
  Mesh(Communicator& world, std::vector<AxisSize> axes) : Mesh(world, Layout{std::move(axes), {}}) {}

  const MeshCoord& coord() const { return coord_; }  // of this rank: its place on the axes of both grids
  MeshCoord coord_of(int rank) const;
  int rank_of(const MeshCoord& coord) const;  // by its place on the first grid
  MeshCoord coord_among_experts(int rank) const { return place_of(rank, layout_.expert_axes); }
  int size(std::string_view axis) const;
  int index(std::string_view axis) const;
  int num_ranks() const { return world_.size(); }
  Communicator& world() const { return world_; }

  // The ranks that differ from this one only on this axis, or these axes, of one grid, ranked in mesh order. A self
  // communicator when that is this rank alone. The axes' own communicators exist from the start; a set's is made,
  // collectively, when it is first asked for. The order in which a set is given does not matter.
  Communicator& along(std::string_view axis);
  Communicator& along(std::span<const std::string> axes);
  // Communicators so far, by the axes that they run along.
  const std::map<std::string, std::unique_ptr<Communicator>>& communicators() const { return communicators_; }
  std::string describe() const;  // "dp 2 x tp 4", "1 rank", "dp 4 with ep 2"

 private:
  static MeshCoord place_of(int rank, const std::vector<AxisSize>& axes);
  const std::vector<AxisSize>& grid_with(std::span<const std::string> axes) const;

  Communicator& world_;
  Layout layout_;
  MeshCoord coord_;
  std::map<std::string, std::unique_ptr<Communicator>> communicators_;  // by the names that matter, joined
};

}  // namespace deepflow
