#include "models/mixtral/model.h"

namespace deepflow {

// What each way to split a model does to a Mixtral: check_layout lets no other than data and pipeline parallelism in.

void MixtralModel::parallelize(ParameterRegistry& registry, const ModelLayout& layout) {
  assign_chunks(registry, layout.chunks);
}

}  // namespace deepflow
