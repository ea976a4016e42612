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

// What of a spec decides how ranks share it; the same for all layers.
std::string signature(const ParameterSpec& spec, const std::set<int>& stages) {
  std::string text = fmt::format("{} {}", fmt::join(spec.partial, "+"), fmt::join(stages, ","));
  for (const Split& s : spec.placement)
    text += fmt::format(" {}:{}/{}{}", s.dim, s.units, fmt::join(s.axes, "+"), s.even ? "" : " uneven");
  return text;
}

class Grouper {
 public:
  Grouper(const Mesh& mesh, std::span<const int> rank_of_chunk) : rank_of_chunk_(rank_of_chunk) {
    for (int r = 0; r < mesh.num_ranks(); ++r) coords_.push_back(mesh.coord_of(r));
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
      if (contains(kGradientAxes, axis)) return false;
      if (axis == kPipelineAxis || contains(spec.partial, axis)) return true;
      return std::any_of(spec.placement.begin(), spec.placement.end(), [&](const Split& s) {
        return contains(s.axes, axis);  // ranks with different parts are kept apart by their parts
      });
    });
  }
  Grouping holders(const ParameterSpec& spec) const {
    return group(spec, [](const std::string& axis) { return !contains(kGradientAxes, axis); });
  }

 private:
  std::span<const int> rank_of_chunk_;
  std::vector<MeshCoord> coords_;
};

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
  gradient_ = &mesh.along(kGradientAxes);
  shard_ = &mesh.along(kShardAxes);
  replica_ = &mesh.along(kReplicaAxes);
  const auto me = static_cast<size_t>(world_->rank());

  const Grouper grouper(mesh, rank_of_chunk);
  struct Kind {
    size_t grouping;
    bool counts, partial;
  };
  std::map<std::string, Kind> kinds;
  std::vector<Grouping> groupings;
  constexpr size_t kNone = SIZE_MAX;
  for (const Parameter& p : registry.parameters()) {
    const auto [at, is_new] = kinds.try_emplace(signature(p.spec, grouper.stages(p.spec)), Kind{kNone, false, false});
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

  domains_.resize(registry.packs().size());
  for (const Pack& pack : registry.packs())
    for (const Parameter* p : pack.members) {
      const Kind& kind = kinds.at(signature(p->spec, grouper.stages(p->spec)));
      Communicator* comm = kind.partial ? made_[kind.grouping].get() : nullptr;
      domains_[static_cast<size_t>(pack.id)].push_back({comm, kind.counts});
    }
}

int64_t GradientDomains::bytes_sent() const {
  int64_t bytes = 0;
  for (const auto& comm : made_) bytes += comm->bytes().sent;
  return bytes;
}

const GradientDomains::Domain& GradientDomains::of(const Parameter& p) const {
  const auto& members = p.pack->members;
  const auto place = static_cast<size_t>(std::find(members.begin(), members.end(), &p) - members.begin());
  return domains_[static_cast<size_t>(p.pack->id)][place];
}

}  // namespace deepflow
