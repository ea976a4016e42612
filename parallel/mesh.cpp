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

std::vector<AxisSize> layout_of(const ParallelOptions& o, int num_ranks) {
  const std::vector<AxisSize> fitted = fit_layout({{"pp", o.pp}, {"dp", o.dp}, {"cp", o.cp}, {"tp", o.tp}}, num_ranks);
  const int dp = fitted[1].size, shard = o.shard == 0 ? dp : o.shard;
  if (dp % shard != 0)
    throw ConfigError("parallel.shard: {} does not divide the {} data-parallel ranks; it can be {}", shard, dp,
                      fmt::join(divisors(dp), ", "));
  return {fitted[0], {"dr", dp / shard}, {"ds", shard}, fitted[2], fitted[3]};
}

Mesh::Mesh(Communicator& world, std::vector<AxisSize> axes) : world_(world), axes_(std::move(axes)) {
  int64_t product = 1;
  for (const AxisSize& a : axes_) product *= a.size;
  DF_ASSERT(product == world_.size(), "{} over {} ranks", text_of(axes_), world_.size());
  coord_ = coord_of(world_.rank());
  for (const AxisSize& a : axes_) along(a.name);
}

MeshCoord Mesh::coord_of(int rank) const {
  MeshCoord coord(axes_.size());
  for (size_t i = axes_.size(); i-- > 0;) {
    coord[i] = {axes_[i].name, rank % axes_[i].size, axes_[i].size};
    rank /= axes_[i].size;
  }
  return coord;
}

int Mesh::rank_of(const MeshCoord& coord) const {
  int rank = 0;
  for (size_t i = 0; i < axes_.size(); ++i) rank = rank * axes_[i].size + coord[i].index;
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

Communicator& Mesh::along(std::string_view axis) {
  const std::string name(axis);
  return along(std::span(&name, 1));
}

Communicator& Mesh::along(std::span<const std::string> axes) {
  std::string key;
  int colour = 0;  // the place on all other axes
  for (const MeshAxis& a : coord_) {
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
  for (const AxisSize& a : axes_) {
    const bool continued = a.name == "ds" && !axes.empty() && axes.back().name == "dp";
    if (continued)
      axes.back().size *= a.size;
    else
      axes.push_back({a.name == "dr" ? "dp" : a.name, a.size});
  }
  return text_of(axes) + (size("dr") > 1 && size("ds") > 1 ? fmt::format(" (shards of {})", size("ds")) : "");
}

}  // namespace deepflow
