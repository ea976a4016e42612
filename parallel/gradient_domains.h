#pragma once

#include "core/parameter_registry.h"
#include "parallel/mesh.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// The mesh axes that matter to gradients, outermost first. Ranks along the gradient axes see different rows of the
// batch, and the exchange sums over them: sharded over the shard axes, replicated over the replica axes (Zhao et al.
// 2023, PyTorch FSDP, section 3.2.2, hybrid sharding).
inline const std::vector<std::string> kGradientAxes = {"dr", "ds", "cp"};
inline const std::vector<std::string> kReplicaAxes = {"dr"};
inline const std::vector<std::string> kShardAxes = {"ds", "cp"};

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
  Communicator* partial(const Parameter& p) const { return of(p).partial; }
  // Whether this rank reads `p` and is the one that stands for it: true on exactly one of the ranks that hold the same
  // elements and differ in other axes than the gradient axes. (Which of the others counts is the shard map's matter.)
  bool counts(const Parameter& p) const { return of(p).counts; }
  // This rank's place among all ranks of the mesh.
  Communicator& world() const { return *world_; }
  int64_t bytes_sent() const;  // so far, of partial sums
  // The ranks of the gradient axes, of the shard axes and of the replica axes.
  Communicator& gradient() const { return *gradient_; }
  Communicator& shard() const { return *shard_; }
  Communicator& replica() const { return *replica_; }

 private:
  struct Domain {
    Communicator* partial = nullptr;
    bool counts = false;
  };
  const Domain& of(const Parameter& p) const;

  Communicator *world_, *gradient_, *shard_, *replica_;
  std::vector<std::vector<Domain>> domains_;  // by pack id and place in the pack
  std::vector<std::unique_ptr<Communicator>> made_;
};

}  // namespace deepflow
