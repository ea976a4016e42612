#include "models/parts/mtp.h"

#include "kernels/ops/join_columns.h"
#include "kernels/ops/residual.h"

#include <utility>

namespace deepflow {

MultiTokenPrediction::MultiTokenPrediction(ParameterRegistry& registry, const Form& form, const MtpOptions& options,
                                           const std::function<void()>& declare_block)
    : embedding_norm_(registry, "mtp.embedding_norm", form.norm, form.width, form.norm_eps),
      hidden_norm_(registry, "mtp.hidden_norm", form.norm, form.width, form.norm_eps),
      projection_(registry, "mtp.projection", form.width, {.in = 2 * form.width, .stddev = form.stddev}),
      weight_(options.weight) {
  declare_block();
  norm_ = std::make_unique<Norm>(registry, "mtp.norm", form.norm, form.width, form.norm_eps);
}

Residual MultiTokenPrediction::enter(ForwardContext& context, const Var& embedded, const Var& hidden) const {
  const Var next = embedding_norm_(context, {embedded, std::nullopt}).normed;
  const Var joined = join_columns(context, next, hidden_norm_(context, hidden));
  return {as_stream(context, projection_(context, joined)), std::nullopt};
}

void MultiTokenPrediction::follow_rows(const TensorParallel& tp) {
  embedding_norm_.follow_rows(tp);
  hidden_norm_.follow_rows(tp);
  if (tp.sequence) projection_.follow_rows();
  norm_->follow_rows(tp);
}

void add_mtp_names(ForeignNames& names, int64_t layers) {
  const std::string layer = "layers." + std::to_string(layers), theirs = "model." + layer;
  const std::pair<const char*, const char*> own[] = {{".enorm", "mtp.embedding_norm"},
                                                     {".hnorm", "mtp.hidden_norm"},
                                                     {".eh_proj", "mtp.projection"},
                                                     {".shared_head.norm", "mtp.norm"}};
  const auto add = [&](NameMap& map) {
    for (const auto& name : own)
      map.push_back({theirs + name.first + ".weight", {std::string(name.second) + ".weight"}});
    for (NameMapEntry& entry : map) entry.optional = entry.optional || entry.external.starts_with(theirs + ".");
  };
  add(names.map);
  for (NameMap& map : names.also_read) add(map);
  names.ignored.push_back(layer + ".embed_tokens.weight");
  names.ignored.push_back(layer + ".shared_head.head.weight");
}

}  // namespace deepflow
