#include "engine/session.h"

#include "core/error.h"
#include "engine/form_choice.h"
#include "engine/pipeline_plan.h"
#include "parallel/self_communicator.h"

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
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    if (name == name_of(dtype)) return {dtype, ProductPrecision::kCompute};
  throw ConfigError("{} is not a precision; expected f32, bf16, f16 or int8", name);
}

struct Session::LoneMesh {
  std::unique_ptr<Communicator> comm = make_self_communicator("alone");
  Mesh mesh{*comm, layout_of({}, 1)};
};

Session::Session(const ModelOptions& model, const SessionOptions& options, Mesh& mesh, const ParallelOptions& parallel,
                 int64_t sequence)
    : Session(model, options, nullptr, &mesh, parallel, sequence) {}

Session::Session(const ModelOptions& model, const SessionOptions& options)
    : Session(model, options, std::make_unique<LoneMesh>(), nullptr, {}, 1) {}

Session::Session(const ModelOptions& model, const SessionOptions& options, std::unique_ptr<LoneMesh> lone, Mesh* mesh,
                 const ParallelOptions& parallel, int64_t sequence)
    : lone_(std::move(lone)),
      mesh_(mesh ? *mesh : lone_->mesh),
      tp_{&mesh_.along("tp"), parallel.sp, parallel.tp_overlap},
      cp_{&mesh_.along("cp"), parallel.cp_method},
      links_(std::make_unique<PipelineLinks>(mesh_.along("pp"), chunk_stages(parallel))),
      parallel_(parallel),
      precision_(precision_from_name(options.precision)),
      runtime_(runtime_options(options)),
      stream_(make_cpu_stream()) {
  const int64_t before = runtime_.memory().stats().in_use;
  model_ = model.config().build(runtime_, registry_, model.recompute);
  model_bytes_ = runtime_.memory().stats().in_use - before;
  split_model(sequence);
  registry_.freeze(mesh_.coord(), links_->own_chunks());
  const int64_t share = memory_share(read_host(), runtime_.pool().size());
  domains_ = std::make_unique<GradientDomains>(mesh_, registry_, links_->rank_of_chunk());
  store_options_.compute = precision_.compute;
  store_options_.bucket_elements = options.bucket_elements;
  store_options_.forms_kept = choose_forms(options.weight_forms, registry_, precision_.compute, share);
  store_options_.zero = parallel.zero;
  store_options_.unit = options.unit;
  store_options_.domains = domains_.get();
  if (model.recompute == Recompute::kAuto && options.training) {
    memory_plan_ = agree(mesh_.world(), *options.training, layout(), share);
    model_->set_recompute(memory_plan_->policies);
  }
  store_ = std::make_unique<ResidentStore>(runtime_, registry_, store_options_);
}

Session::~Session() = default;

RankLayout Session::layout() {
  RankLayout layout{model_->shape(), runtime_, registry_, {}, store_options_};
  for (const int chunk : links_->own_chunks())
    layout.chunks.push_back({chunk, model_->chunks()[static_cast<size_t>(chunk)]});
  layout.model_bytes = model_bytes_;
  layout.products = precision_.products;
  layout.tp = tp_.size();
  layout.cp = cp_.size();
  layout.cp_method = cp_.method;
  layout.sequence_parallel = is_split(&tp_) && tp_.sequence;
  layout.overlap = tp_.overlap;
  layout.data_ranks = mesh_.along(kDataAxes).size();
  layout.num_stages = links_->num_stages();
  layout.expert_ranks = ep_.size();
  layout.etp = ep_.etp;
  layout.actions = [this](int passes) {
    return plan_pipeline(parallel_, passes).of_rank[static_cast<size_t>(links_->stage())];
  };
  return layout;
}

void Session::split_model(int64_t sequence) {
  static const std::vector<std::string> kExpertAxes = {"ep", "etp"}, kSequenceAxes = {"cp", "tp"};
  ModelLayout layout;
  layout.tp = &tp_;
  layout.cp = &cp_;
  ep_ = {&mesh_.along(kExpertAxes), mesh_.size("etp"), parallel_.ep_overlap};
  layout.ep = &ep_;
  if (model_->shape().experts > 0) layout.sequences = {&mesh_.along(kSequenceAxes), &cp_, &tp_};
  check_layout(model_->shape(), layout, sequence);
  layout.chunks = split_layers(static_cast<int>(model_->shape().layers), links_->rank_of_chunk(), parallel_.layers,
                               layer_costs(model_->shape(), sequence));
  model_->parallelize(registry_, layout);
  rows_.tp = &tp_;
  rows_.looks_ahead = model_->shape().mtp > 0;
  if (is_split(&cp_)) rows_.spans = context_spans(sequence, cp_.method, cp_.rank(), cp_.size());
}

}  // namespace deepflow
