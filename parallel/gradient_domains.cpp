#include "parallel/gradient_domains.h"

#include "core/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

namespace deepflow {
namespace {

constexpr const char* kPipelineAxis = "pp";

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Ranks that share something, as the lowest rank of each rank's group.
using Grouping = std::vector<int>;

class Grouper {
 public:
  // On the grid of experts, or on that of all else.
  Grouper(const Mesh& mesh, std::span<const int> rank_of_chunk, bool experts)
      : rank_of_chunk_(rank_of_chunk), gradient_axes_(experts ? kExpertGradientAxes.all : kDenseGradientAxes.all) {
    for (int r = 0; r < mesh.num_ranks(); ++r)
      coords_.push_back(experts ? mesh.coord_among_experts(r) : mesh.coord_of(r));
    if (experts) return;
    for (MeshCoord& coord : coords_)
      coord.erase(std::remove_if(coord.begin(), coord.end(), [](const MeshAxis& a) { return is_of_experts(a.name); }),
                  coord.end());
  }

  std::set<int> stages(const ParameterSpec& spec) const {
    std::set<int> result;
    for (const int chunk : spec.chunks) {
      DF_ASSERT(chunk >= 0 && chunk < static_cast<int>(rank_of_chunk_.size()), "{}: chunk {} of {}", spec.name, chunk,
                rank_of_chunk_.size());
      result.insert(rank_of_chunk_[static_cast<size_t>(chunk)]);
    }
    return result;
  }
  bool reads(const ParameterSpec& spec, int rank) const {
    for (const MeshAxis& a : coords_[static_cast<size_t>(rank)])
      if (a.name == kPipelineAxis) return stages(spec).count(a.index) > 0;
    return true;
  }

  // The ranks that read the parameter, hold the same part and differ only along axes that `varies` names.
  template <class F>
  Grouping group(const ParameterSpec& spec, F&& varies) const {
    Grouping result(coords_.size());
    std::vector<std::vector<Box>> parts;
    std::map<std::string, std::vector<int>> lowest;  // by place on the axes that do not vary: one rank of each part
    for (size_t r = 0; r < coords_.size(); ++r) {
      parts.push_back(local_boxes(spec, coords_[r]));
      result[r] = static_cast<int>(r);
      if (!reads(spec, result[r])) continue;
      std::string place;
      for (const MeshAxis& a : coords_[r])
        if (!varies(a.name)) place += fmt::format("{} ", a.index);
      std::vector<int>& candidates = lowest[place];
      const auto same = std::find_if(candidates.begin(), candidates.end(),
                                     [&](int other) { return parts[static_cast<size_t>(other)] == parts[r]; });
      if (same != candidates.end())
        result[r] = *same;
      else
        candidates.push_back(result[r]);
    }
    return result;
  }

  Grouping partial(const ParameterSpec& spec) const {
    return group(spec, [&](const std::string& axis) {
      if (contains(gradient_axes_, axis)) return false;
      if (axis == kPipelineAxis || contains(spec.partial, axis)) return true;
      return std::any_of(spec.placement.begin(), spec.placement.end(), [&](const Split& s) {
        return contains(s.axes, axis);  // ranks with different parts are kept apart by their parts
      });
    });
  }
  Grouping holders(const ParameterSpec& spec) const {
    return group(spec, [&](const std::string& axis) { return !contains(gradient_axes_, axis); });
  }

 private:
  static bool is_of_experts(const std::string& axis) {
    return axis == "ep" || axis == "etp" || contains(kExpertGradientAxes.all, axis);
  }

  std::span<const int> rank_of_chunk_;
  const std::vector<std::string>& gradient_axes_;
  std::vector<MeshCoord> coords_;
};

// What of a parameter decides how ranks share it; the same for all layers.
std::string signature(const Parameter& p, const Grouper& grouper) {
  std::string text = fmt::format("{} {} {}", p.spec.role == Role::kExpert, fmt::join(p.spec.partial, "+"),
                                 fmt::join(grouper.stages(p.spec), ","));
  for (const Split& s : p.spec.placement)
    text += fmt::format(" {}:{}/{}{}", s.dim, s.units, fmt::join(s.axes, "+"), s.even ? "" : " uneven");
  return text;
}

bool is_alone(const Grouping& g, size_t rank) { return std::count(g.begin(), g.end(), g[rank]) == 1; }

// Adds the groups of `g` to `into` where no rank would be in two different ones.
bool merge(Grouping& into, const Grouping& g) {
  Grouping both = into;
  for (size_t r = 0; r < g.size(); ++r) {
    if (is_alone(g, r)) continue;
    if (is_alone(into, r))
      both[r] = g[r];
    else if (into[r] != g[r])
      return false;
  }
  for (size_t r = 0; r < g.size(); ++r) {  // a group of one is part of another, smaller or larger
    const auto members = [&](const Grouping& of, size_t rank) { return std::count(of.begin(), of.end(), of[rank]); };
    if (!is_alone(g, r) && members(both, r) != members(g, r)) return false;
    if (!is_alone(into, r) && members(both, r) != members(into, r)) return false;
  }
  into = both;
  return true;
}

}  // namespace

GradientDomains::GradientDomains(Mesh& mesh, const ParameterRegistry& registry, std::span<const int> rank_of_chunk) {
  world_ = &mesh.world();
  const bool has_experts = std::any_of(registry.packs().begin(), registry.packs().end(),
                                       [](const Pack& pack) { return pack.role() == Role::kExpert; });
  experts_apart_ = has_experts && mesh.size("ep") * mesh.size("etp") * mesh.size("tp") > 1;
  const auto ranks_along = [&](const GradientAxes& axes) {
    return Ranks{&mesh.along(axes.all), &mesh.along(axes.shard), &mesh.along(axes.replica)};
  };
  ranks_[GradientDomain::kDense] = ranks_along(kDenseGradientAxes);
  ranks_[GradientDomain::kExpert] = experts_apart_ ? ranks_along(kExpertGradientAxes) : ranks_[GradientDomain::kDense];
  const auto me = static_cast<size_t>(world_->rank());

  const Grouper of_dense(mesh, rank_of_chunk, false);
  const Grouper of_experts(mesh, rank_of_chunk, true);
  struct Kind {
    size_t grouping;
    bool counts, partial;
  };
  std::map<std::string, Kind> kinds;
  std::vector<Grouping> groupings;
  constexpr size_t kNone = SIZE_MAX;
  for (const Parameter& p : registry.parameters()) {
    const Grouper& grouper = of(*p.pack) == GradientDomain::kExpert ? of_experts : of_dense;
    const auto [at, is_new] = kinds.try_emplace(signature(p, grouper), Kind{kNone, false, false});
    if (!is_new) continue;
    at->second.counts = grouper.reads(p.spec, world_->rank()) && grouper.holders(p.spec)[me] == world_->rank();
    const Grouping g = grouper.partial(p.spec);
    bool any = false;
    for (size_t r = 0; r < g.size(); ++r) any = any || g[r] != static_cast<int>(r);
    if (!any) continue;
    size_t k = 0;
    while (k < groupings.size() && !merge(groupings[k], g)) ++k;
    if (k == groupings.size()) groupings.push_back(g);
    at->second.grouping = k;
    at->second.partial = !is_alone(g, me);
  }
  for (size_t k = 0; k < groupings.size(); ++k)
    made_.push_back(world_->split(groupings[k][me], world_->rank(), fmt::format("partial gradients {}", k)));

  sharing_.resize(registry.packs().size());
  for (const Pack& pack : registry.packs())
    for (const Parameter* p : pack.members) {
      const Kind& kind = kinds.at(signature(*p, of_dense));
      Communicator* comm = kind.partial ? made_[kind.grouping].get() : nullptr;
      sharing_[static_cast<size_t>(pack.id)].push_back({comm, kind.counts});
    }
}

int64_t GradientDomains::bytes_sent() const {
  int64_t bytes = 0;
  for (const auto& comm : made_) bytes += comm->bytes().sent;
  return bytes;
}

GradientDomain GradientDomains::of(const Pack& pack) const {
  return experts_apart_ && pack.role() == Role::kExpert ? GradientDomain::kExpert : GradientDomain::kDense;
}

const GradientDomains::Sharing& GradientDomains::sharing(const Parameter& p) const {
  const auto& members = p.pack->members;
  const auto place = static_cast<size_t>(std::find(members.begin(), members.end(), &p) - members.begin());
  return sharing_[static_cast<size_t>(p.pack->id)][place];
}

}  // namespace deepflow
