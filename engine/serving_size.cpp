#include "engine/serving_size.h"

#include "checkpoint/codecs/scaled_groups.h"
#include "engine/checkpoint_export.h"
#include "engine/checkpoint_model.h"
#include "models/model.h"

#include <nlohmann/json.hpp>

namespace deepflow {
namespace {

int64_t coded_bytes(const ParameterSpec& spec, int64_t bits) {
  const int64_t n = spec.shape.num_elements();
  if (!may_be_coded(spec.role)) return n * 4;
  const auto group = static_cast<int64_t>(kScaledGroup);
  return (n * bits + 7) / 8 + (n + group - 1) / group * 4;
}

}  // namespace

ServingSize serving_size(const StoredCheckpoint& checkpoint) {
  Runtime runtime({.threads = 1});
  CheckpointModel model(runtime, checkpoint);
  ParameterRegistry registry;
  const ModelConfig& config = model.shell().config();
  const ModelShape shape = config.build(runtime, registry, Recompute::kNone)->shape();
  ServingSize size;
  size.family = config.family();
  for (const Parameter& p : model.shell().registry().parameters()) {
    const int64_t n = p.spec.shape.num_elements();
    size.parameters += n;
    size.active += p.spec.role == Role::kExpert ? n / shape.experts * shape.expert_choices : n;
    size.f32 += 4 * n;
    size.bf16 += (p.spec.role == Role::kBuffer ? 4 : 2) * n;
    size.int8 += coded_bytes(p.spec, 8);
    size.nf4 += coded_bytes(p.spec, 4);
    if (n <= size.largest_elements) continue;
    size.largest = p.spec.name;
    size.largest_elements = n;
  }
  size.layers = shape.layers;
  size.context = shape.max_positions;
  size.cache_bytes = cache_shape(shape, true).columns() * shape.layers * 2;
  size.full_cache_bytes = cache_shape(shape, false).columns() * shape.layers * 2;
  return size;
}

}  // namespace deepflow
