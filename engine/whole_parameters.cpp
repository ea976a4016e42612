#include "engine/whole_parameters.h"

#include "kernels/ops/elementwise.h"

#include <algorithm>

namespace deepflow {
namespace {

Shape extents(const Box& box) {
  Shape shape;
  for (size_t d = 0; d < box.lo.size(); ++d) shape.push_back(box.hi[d] - box.lo[d]);
  return shape;
}

// Writes the value of a box, of one to three dims, into its place in the whole.
void copy_into(Runtime& runtime, const Tensor& whole, const Box& box, const Tensor& value) {
  const size_t dims = box.lo.size();
  if (dims == 1) {
    Tensor place = whole.flat_range(box.lo[0], box.hi[0]);
    copy(runtime, value, place);
    return;
  }
  const int64_t first = dims > 2 ? box.lo[0] : 0, matrices = dims > 2 ? box.hi[0] - first : 1;
  const int64_t lo = box.lo[dims - 2], rows = box.hi[dims - 2] - lo;
  for (int64_t i = 0; i < matrices; ++i) {
    const int64_t row = (first + i) * (dims > 2 ? whole.shape()[1] : 0) + lo;
    Tensor place = whole.row_range(row, row + rows).column_range(box.lo[dims - 1], box.hi[dims - 1]);
    copy(runtime, value.row_range(i * rows, (i + 1) * rows), place);
  }
}

}  // namespace

// Of the ranks that hold the same part the first; replicas along the batch axes hold all that this one does.
std::vector<WholeParameters::Part> WholeParameters::parts_of(const Parameter& p) const {
  std::vector<Part> parts;
  const Mesh& mesh = machine_.mesh;
  const std::vector<std::string>& replicas =
      p.spec.role == Role::kExpert ? kExpertGradientAxes.all : kDenseGradientAxes.all;
  for (int rank = 0; rank < mesh.num_ranks(); ++rank) {
    const MeshCoord coord = mesh.coord_of(rank);
    const bool counts = std::all_of(coord.begin(), coord.end(), [&](const MeshAxis& a) {
      if (a.name == "pp") return a.index == machine_.links.stage_of(p.spec.chunks.front());
      return a.index == 0 || std::find(replicas.begin(), replicas.end(), a.name) == replicas.end();
    });
    if (!counts) continue;
    const Box box = local_boxes(p.spec, coord).front();
    const bool known = std::any_of(parts.begin(), parts.end(), [&](const Part& q) { return q.box == box; });
    if (!known) parts.push_back({rank, box});
  }
  return parts;
}

Tensor WholeParameters::operator()(const Parameter& p) {
  Runtime& runtime = machine_.runtime;
  Communicator& world = machine_.world();
  Tensor mine = p.pack->local ? machine_.store.whole_master(p, machine_.stream) : Tensor();
  if (world.size() == 1) return mine;
  std::vector<PointToPoint> messages;
  std::vector<std::pair<Box, Tensor>> arrived;
  for (const Part& part : parts_of(p)) {
    if (part.rank == world.rank() && world.rank() == 0) {
      arrived.emplace_back(part.box, mine);
    } else if (part.rank == world.rank()) {
      messages.push_back({0, true, mine});
    } else if (world.rank() == 0) {
      arrived.emplace_back(part.box, Tensor::empty(runtime.memory(), extents(part.box), DType::kF32));
      messages.push_back({part.rank, false, arrived.back().second});
    }
  }
  if (!messages.empty()) world.batch(messages, p.spec.name)->wait_host();
  if (world.rank() != 0) return {};
  if (arrived.size() == 1) return arrived.front().second;
  Tensor whole = Tensor::empty(runtime.memory(), p.spec.shape, DType::kF32);
  for (const auto& [box, value] : arrived) copy_into(runtime, whole, box, value);
  return whole;
}

}  // namespace deepflow
