#pragma once

#include "core/parameter_registry.h"
#include "parallel/mesh.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// Ranks that see different rows of the batch hold gradients that the exchange sums. Which those are differs between
// parameters that every rank of a stage has its slice of and experts, which lie on a grid of their own
// (parallel/mesh.h).
enum class GradientDomain : uint8_t { kDense, kExpert };
constexpr size_t kNumGradientDomains = 2;
template <class T>
class PerDomain {  // one value for each
 public:
  PerDomain(T dense, T expert) : values_{std::move(dense), std::move(expert)} {}
  explicit PerDomain(const T& both) : values_{both, both} {}
  T& operator[](GradientDomain d) { return values_[static_cast<size_t>(d)]; }
  const T& operator[](GradientDomain d) const { return values_[static_cast<size_t>(d)]; }

 private:
  T values_[kNumGradientDomains];
};

// The mesh axes that matter to gradients, outermost first: the exchange sums over them, sharded over the shard axes,
// replicated over the replica axes (Zhao et al. 2023, PyTorch FSDP, section 3.2.2, hybrid sharding).
struct GradientAxes {
  std::vector<std::string> all, shard, replica;
};
inline const GradientAxes kDenseGradientAxes = {{"dr", "ds", "cp"}, {"ds", "cp"}, {"dr"}};
inline const GradientAxes kExpertGradientAxes = {{"er", "es"}, {"es"}, {"er"}};
inline const std::vector<std::string> kShardAxes = kDenseGradientAxes.shard;

// Over which ranks the local gradient of a parameter is only a partial sum before the exchange over the gradient axes:
// the axes that its spec calls partial, neighbours that hold the same part because there are fewer units than ranks,
// and the pipeline stages that read it in different chunks (tied embeddings). All three are summed at once, so every
// parameter has one such group of ranks, or none. Derived from specs and mesh alone.
class GradientDomains {
 public:
  // Collective over the mesh, once; few communicators, one for each different way to group the ranks. The registry is
  // frozen. rank_of_chunk: index on the pp axis of the rank that reads a chunk.
  GradientDomains(Mesh& mesh, const ParameterRegistry& registry, std::span<const int> rank_of_chunk);

  // The ranks whose gradients of `p` are to be summed, in the order of ranks; null when this rank's is complete.
  Communicator* partial(const Parameter& p) const { return sharing(p).partial; }
  // Whether this rank reads `p` and is the one that stands for it: true on exactly one of the ranks that hold the same
  // elements and differ in other axes than the gradient axes. (Which of the others counts is the shard map's matter.)
  bool counts(const Parameter& p) const { return sharing(p).counts; }
  // This rank's place among all ranks of the mesh.
  Communicator& world() const { return *world_; }
  int64_t bytes_sent() const;  // so far, of partial sums
  // kExpert for experts where they are placed otherwise than all else: with ep, etp, or tp, whose ranks bring
  // different rows to the same experts. Otherwise kDense.
  GradientDomain of(const Pack& pack) const;
  bool has_experts_apart() const { return experts_apart_; }
  // The ranks of the gradient axes, of the shard axes and of the replica axes.
  Communicator& gradient(GradientDomain d = GradientDomain::kDense) const { return *ranks_[d].gradient; }
  Communicator& shard(GradientDomain d = GradientDomain::kDense) const { return *ranks_[d].shard; }
  Communicator& replica(GradientDomain d = GradientDomain::kDense) const { return *ranks_[d].replica; }

 private:
  struct Sharing {
    Communicator* partial = nullptr;
    bool counts = false;
  };
  struct Ranks {
    Communicator *gradient = nullptr, *shard = nullptr, *replica = nullptr;
  };
  const Sharing& sharing(const Parameter& p) const;

  Communicator* world_;
  bool experts_apart_;
  PerDomain<Ranks> ranks_{{}, {}};
  std::vector<std::vector<Sharing>> sharing_;  // by pack id and place in the pack
  std::vector<std::unique_ptr<Communicator>> made_;
};

}  // namespace deepflow
