#include "engine/session.h"

#include "engine/form_choice.h"

namespace deepflow {
namespace {

RuntimeOptions runtime_options(const SessionOptions& options) {
  RuntimeOptions r;
  r.threads = options.threads;
  r.cpus = options.cpus;
  if (options.cpu_isa != "auto") r.cpu_isa = isa_from_name(options.cpu_isa);
  return r;
}

}  // namespace

Precision precision_from_name(const std::string& name) {
  if (name == "int8") return {DType::kBF16, ProductPrecision::kInt8};
  return {dtype_from_name(name), ProductPrecision::kCompute};
}

Session::Session(const ModelOptions& model, const SessionOptions& options, Communicator& batch_axes,
                 const MeshCoord& coord)
    : precision_(precision_from_name(options.precision)),
      runtime_(runtime_options(options)),
      stream_(make_cpu_stream()),
      batch_axes_(batch_axes) {
  model_ = model.config().build(runtime_, registry_, model.recompute);
  registry_.freeze(coord);
  const FormsKept kept = choose_forms(options.weight_forms, registry_, precision_.compute,
                                      memory_share(read_host(), runtime_.pool().size()));
  store_ = std::make_unique<ResidentStore>(runtime_, registry_, precision_.compute, options.bucket_elements, kept);
}

}  // namespace deepflow
