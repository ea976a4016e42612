#include "parallel/mesh.h"

#include "core/error.h"
#include "parallel/self_communicator.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

std::string text_of(const std::vector<AxisSize>& axes) {
  std::vector<std::string> parts;
  for (const AxisSize& a : axes)
    if (a.size != 1) parts.push_back(fmt::format("{} {}", a.name, a.size));
  return parts.empty() ? "1 rank" : fmt::format("{}", fmt::join(parts, " x "));
}

std::vector<int> divisors(int n) {
  std::vector<int> found;
  for (int d = 1; d <= n; ++d)
    if (n % d == 0) found.push_back(d);
  return found;
}

// Every way to write `ranks` as a product over the axes that are not fixed at 1.
void factorise(std::vector<AxisSize>& axes, size_t at, int ranks, const std::vector<AxisSize>& wanted,
               std::vector<std::vector<AxisSize>>& found) {
  if (at == axes.size()) {
    if (ranks == 1) found.push_back(axes);
    return;
  }
  const bool fixed = wanted[at].size == 1;
  for (int size = 1; size <= (fixed ? 1 : ranks); ++size) {
    if (ranks % size != 0) continue;
    axes[at].size = size;
    factorise(axes, at + 1, ranks / size, wanted, found);
  }
}

double distance(const std::vector<AxisSize>& a, const std::vector<AxisSize>& wanted) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    if (wanted[i].size > 0) sum += std::abs(std::log2(static_cast<double>(a[i].size) / wanted[i].size));
  return sum;
}

// `wanted`: one axis may be 0, which any size suits.
std::string nearest_layouts(const std::vector<AxisSize>& wanted, int num_ranks) {
  std::vector<std::vector<AxisSize>> found;
  std::vector<AxisSize> scratch = wanted;
  factorise(scratch, 0, num_ranks, wanted, found);
  std::stable_sort(found.begin(), found.end(),
                   [&](const auto& a, const auto& b) { return distance(a, wanted) < distance(b, wanted); });
  std::vector<std::string> texts;
  for (size_t i = 0; i < std::min<size_t>(3, found.size()); ++i) texts.push_back(text_of(found[i]));
  if (texts.empty()) return fmt::format("leave one axis out, so that it takes what is left of {} ranks", num_ranks);
  return fmt::format("layouts near it: {}", fmt::join(texts, "; "));
}

}  // namespace

std::vector<AxisSize> fit_layout(std::vector<AxisSize> axes, int num_ranks) {
  int64_t product = 1;
  AxisSize* rest = nullptr;
  std::vector<AxisSize> given;
  for (AxisSize& a : axes) {
    DF_ASSERT(a.size >= 0 && (a.size > 0 || !rest), "axis {}: {}", a.name, a.size);
    if (a.size == 0) {
      rest = &a;
    } else {
      product *= a.size;
      if (a.size > 1) given.push_back(a);
    }
  }
  const std::vector<AxisSize> wanted = axes;
  const std::string started = fmt::format("{} rank{} started", num_ranks, num_ranks == 1 ? " that was" : "s that were");
  if (rest) {
    if (num_ranks % product != 0)
      throw ConfigError("parallel: {}{} does not divide the {}; start a multiple of {} ranks; {}", text_of(given),
                        given.size() > 1 ? fmt::format(" = {}", product) : "", started, product,
                        nearest_layouts(wanted, num_ranks));
    rest->size = static_cast<int>(num_ranks / product);
  } else if (product != num_ranks) {
    throw ConfigError("parallel: {} needs {} rank{}, {} {} started; {}", product == 1 ? "this layout" : text_of(axes),
                      product, product == 1 ? "" : "s", num_ranks, num_ranks == 1 ? "was" : "were",
                      nearest_layouts(wanted, num_ranks));
  }
  return axes;
}

namespace {

// Ranks of a stage that have the same part of the same experts are dealt into as many replicas as the batch has, where
// that many divide them.
std::vector<AxisSize> expert_axes_of(const ParallelOptions& o, const std::vector<AxisSize>& axes) {
  int ranks = 1;
  for (const AxisSize& a : axes)
    if (a.name != "pp") ranks *= a.size;
  const int64_t parts = int64_t{o.ep} * o.etp;
  if (ranks % parts != 0) {
    std::vector<int> possible;
    for (const int d : divisors(ranks))
      if (ranks % (int64_t{d} * o.etp) == 0) possible.push_back(d);
    throw ConfigError("parallel.ep: {}{} does not divide the {} rank{} of a pipeline stage ({}); {}", o.ep,
                      o.etp > 1 ? fmt::format(" x etp {} = {}", o.etp, parts) : "", ranks, ranks == 1 ? "" : "s",
                      text_of({{"dp", axes[1].size * axes[2].size}, axes[3], axes[4]}),
                      possible.empty() ? fmt::format("etp can be {}", fmt::join(divisors(ranks), ", "))
                                       : fmt::format("ep can be {} here", fmt::join(possible, ", ")));
  }
  const int same = static_cast<int>(ranks / parts), batch_replicas = axes[1].size;
  const int replicas = same % batch_replicas == 0 ? batch_replicas : 1;
  return {axes[0], {"er", replicas}, {"es", same / replicas}, {"ep", o.ep}, {"etp", o.etp}};
}

}  // namespace

Layout layout_of(const ParallelOptions& o, int num_ranks) {
  const std::vector<AxisSize> fitted = fit_layout({{"pp", o.pp}, {"dp", o.dp}, {"cp", o.cp}, {"tp", o.tp}}, num_ranks);
  const int dp = fitted[1].size, shard = o.shard == 0 ? dp : o.shard;
  if (dp % shard != 0)
    throw ConfigError("parallel.shard: {} does not divide the {} data-parallel ranks; it can be {}", shard, dp,
                      fmt::join(divisors(dp), ", "));
  const std::vector<AxisSize> axes = {fitted[0], {"dr", dp / shard}, {"ds", shard}, fitted[2], fitted[3]};
  return {axes, expert_axes_of(o, axes)};
}

Mesh::Mesh(Communicator& world, Layout layout) : world_(world), layout_(std::move(layout)) {
  for (const std::vector<AxisSize>* axes : {&layout_.axes, &layout_.expert_axes}) {
    int64_t product = 1;
    for (const AxisSize& a : *axes) product *= a.size;
    DF_ASSERT(product == world_.size() || axes->empty(), "{} over {} ranks", text_of(*axes), world_.size());
  }
  coord_ = coord_of(world_.rank());
  for (const AxisSize& a : layout_.axes) along(a.name);
}

MeshCoord Mesh::place_of(int rank, const std::vector<AxisSize>& axes) {
  MeshCoord coord(axes.size());
  for (size_t i = axes.size(); i-- > 0;) {
    coord[i] = {axes[i].name, rank % axes[i].size, axes[i].size};
    rank /= axes[i].size;
  }
  return coord;
}

MeshCoord Mesh::coord_of(int rank) const {
  MeshCoord coord = place_of(rank, layout_.axes);
  for (const MeshAxis& a : place_of(rank, layout_.expert_axes))
    if (std::none_of(coord.begin(), coord.end(), [&](const MeshAxis& known) { return known.name == a.name; }))
      coord.push_back(a);
  return coord;
}

int Mesh::rank_of(const MeshCoord& coord) const {
  int rank = 0;
  for (size_t i = 0; i < layout_.axes.size(); ++i) rank = rank * layout_.axes[i].size + coord[i].index;
  return rank;
}

int Mesh::size(std::string_view axis) const {
  for (const MeshAxis& a : coord_)
    if (a.name == axis) return a.size;
  return 1;
}

int Mesh::index(std::string_view axis) const {
  for (const MeshAxis& a : coord_)
    if (a.name == axis) return a.index;
  return 0;
}

const std::vector<AxisSize>& Mesh::grid_with(std::span<const std::string> names) const {
  const auto is_dense = [&](const std::string& name) {
    return std::any_of(layout_.axes.begin(), layout_.axes.end(), [&](const AxisSize& a) { return a.name == name; });
  };
  const bool dense = std::any_of(names.begin(), names.end(), [&](const auto& n) { return size(n) > 1 && is_dense(n); });
  const bool experts =
      std::any_of(names.begin(), names.end(), [&](const auto& n) { return size(n) > 1 && !is_dense(n); });
  DF_ASSERT(!dense || !experts, "axes of two grids: {}", fmt::join(names, ", "));
  return experts ? layout_.expert_axes : layout_.axes;
}

Communicator& Mesh::along(std::string_view axis) {
  const std::string name(axis);
  return along(std::span(&name, 1));
}

Communicator& Mesh::along(std::span<const std::string> axes) {
  std::string key;
  int colour = 0;  // the place on all other axes
  for (const MeshAxis& a : place_of(world_.rank(), grid_with(axes))) {
    const bool inside = a.size > 1 && std::find(axes.begin(), axes.end(), a.name) != axes.end();
    if (inside)
      key += (key.empty() ? "" : "+") + a.name;
    else
      colour = colour * a.size + a.index;
  }
  std::unique_ptr<Communicator>& made = communicators_[key];
  if (!made) made = key.empty() ? make_self_communicator("self") : world_.split(colour, world_.rank(), key);
  return *made;
}

std::string Mesh::describe() const {
  std::vector<AxisSize> axes;
  for (const AxisSize& a : layout_.axes) {
    const bool continued = a.name == "ds" && !axes.empty() && axes.back().name == "dp";
    if (continued)
      axes.back().size *= a.size;
    else
      axes.push_back({a.name == "dr" ? "dp" : a.name, a.size});
  }
  std::string text = text_of(axes);
  if (size("ep") * size("etp") > 1) text += " with " + text_of({{"ep", size("ep")}, {"etp", size("etp")}});
  return text + (size("dr") > 1 && size("ds") > 1 ? fmt::format(" (shards of {})", size("ds")) : "");
}

}  // namespace deepflow
