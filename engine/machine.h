#pragma once

#include "core/context.h"
#include "engine/pipeline_links.h"
#include "models/model.h"
#include "parallel/gradient_domains.h"
#include "parallel/mesh.h"
#include "parallel/resident_store.h"

#include <vector>

namespace deepflow {

// What of every micro-batch this rank works on.
struct RowPlacement {
  std::vector<RowSpan> spans;          // rows of each sequence; empty: all
  const TensorParallel* tp = nullptr;  // deals the rows of the residual stream, where it has `sequence`
  bool looks_ahead = false;            // what the rows behind each say is wanted as well (multi-token prediction)
};

// What a pass over a model needs; owned by the session.
struct Machine {
  Runtime& runtime;
  Stream& stream;
  CausalModel& model;
  ResidentStore& store;
  Mesh& mesh;
  PipelineLinks& links;
  const GradientDomains& domains;
  RowPlacement rows;
  ProductPrecision products = ProductPrecision::kCompute;

  Communicator& world() const { return mesh.world(); }
  Communicator& data_axes() const { return mesh.along(kDataAxes); }  // ranks that see different samples
  // Of the ranks that see the same samples, the one that counts them.
  bool counts_samples() const { return mesh.index("tp") == 0 && mesh.index("cp") == 0 && mesh.index("pp") == 0; }
  // Of the ranks that compute the same loss, the one whose figure counts.
  bool counts_loss() const { return mesh.index("tp") == 0 && links.stage() == links.stage_of(last_chunk()); }
  int last_chunk() const { return static_cast<int>(model.chunks().size()) - 1; }
};

}  // namespace deepflow
