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

// Axes from the outermost, whose ranks are far apart, to the innermost, whose ranks are neighbours: pp pipeline stages,
// dr and ds batch (dp = dr x ds: replicas of groups of ds ranks over which ZeRO shards), cp sequence, tp matrices. A
// micro-batch hop is rare, a tensor-parallel sum is not. Experts will use (pp, edp, ep, etp), another mesh over the
// same ranks that agrees with this one on pp.
std::vector<AxisSize> layout_of(const ParallelOptions& options, int num_ranks);

inline const std::vector<std::string> kDataAxes = {"dr", "ds"};  // ranks with different samples

// The ranks of the job as a grid with named axes; rank = ((i_0 * size_1 + i_1) * size_2 + i_2) ..., the first axis
// outermost. Collective: all ranks of `world` make the same meshes, and ask for new sets of axes in the same order.
class Mesh {
 public:
  // `world` must outlive the mesh. `axes` as fit_layout returns them; an axis that is not named has size 1.
  Mesh(Communicator& world, std::vector<AxisSize> axes);

  const MeshCoord& coord() const { return coord_; }  // of this rank
  MeshCoord coord_of(int rank) const;
  int rank_of(const MeshCoord& coord) const;
  int size(std::string_view axis) const;
  int index(std::string_view axis) const;
  int num_ranks() const { return world_.size(); }
  Communicator& world() const { return world_; }

  // The ranks that differ from this one only on this axis, or these axes, ranked in mesh order. A self communicator
  // when that is this rank alone. The axes' own communicators exist from the start; a set's is made, collectively,
  // when it is first asked for. The order in which a set is given does not matter.
  Communicator& along(std::string_view axis);
  Communicator& along(std::span<const std::string> axes);
  // Communicators so far, by the axes that they run along.
  const std::map<std::string, std::unique_ptr<Communicator>>& communicators() const { return communicators_; }
  std::string describe() const;  // "dp 2 x tp 4", "1 rank"

 private:
  Communicator& world_;
  std::vector<AxisSize> axes_;
  MeshCoord coord_;
  std::map<std::string, std::unique_ptr<Communicator>> communicators_;  // by the names that matter, joined
};

}  // namespace deepflow
