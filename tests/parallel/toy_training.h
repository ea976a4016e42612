#pragma once

#include "kernels/ops/elementwise.h"
#include "optim/gradient_norm.h"
#include "optim/optimizer.h"
#include "parallel/exchange/dense.h"
#include "parallel/mesh.h"
#include "tests/parallel/some_parameters.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace deepflow::testing {

struct ToyLayout {
  int pp = 1, dr = 1, ds = 1, cp = 1, tp = 1, ep = 1, etp = 1;
  int zero = 0;
  DType compute = DType::kF32;
  std::string optimizer = "sgd";
  int kv_units = 1;
  int ranks() const { return pp * dr * ds * cp * tp; }
};

// Of a whole parameter seen as rows of its last dim: the row that local element i is in.
inline int64_t logical_row(const Parameter& p, int64_t i) {
  const std::vector<int64_t>& lo = p.boxes.front().lo;
  const int64_t row = i / p.local_shape.cols();
  if (lo.size() == 1) return 0;
  if (lo.size() == 2) return lo[0] + row;
  const int64_t rows = p.local_shape[1];
  return (lo[0] + row / rows) * p.spec.shape[1] + lo[1] + row % rows;
}

// Training without a model: parameters of every kind, placed as a transformer's are, whose gradients are random numbers
// keyed by (step, sample, parameter, element) and shared out over the ranks that have only a part of the sum.
class ToyTraining {
 public:
  static constexpr int kSamples = 8;
  static constexpr int kLayers = 4;
  static constexpr int64_t kBucketElements = 6000;

  ToyTraining(Communicator& world, const ToyLayout& layout)
      : layout_(layout), mesh_(world, layout_of(options_of(layout), world.size())) {
    declare();
    std::vector<int> rank_of_chunk;
    for (int s = 0; s < layout.pp; ++s) rank_of_chunk.push_back(s);
    const std::vector<int> chunks = {mesh_.index("pp")};
    registry.freeze(mesh_.coord(), chunks);
    domains = std::make_unique<GradientDomains>(mesh_, registry, rank_of_chunk);
    ResidentStoreOptions options;
    options.compute = layout.compute;
    options.bucket_elements = kBucketElements;
    options.zero = layout.zero;
    options.unit = find_optimizer(layout.optimizer).unit;
    options.domains = domains.get();
    store = std::make_unique<ResidentStore>(runtime, registry, options);
    store->initialise(1);
    exchange = std::make_unique<DenseExchange>(*domains, store->shards(), layout.zero);
    OptimOptions optim;
    optim.name = layout.optimizer;
    optim.block = 8;
    optimizer = find_optimizer(optim.name).make(optim, {runtime, *store, store->pieces(), {}, domains.get()});
    counted_ = counted_pieces(*store, *domains);
  }

  // Returns the norm of the gradient.
  double step(
      int number, const std::function<void()>& after_contribution = [] {}) {
    const int data_ranks = domains->gradient().size(), passes = kSamples / data_ranks;
    store->begin_step(passes, exchange.get());
    for (int pass = 0; pass < passes; ++pass) {
      forward();
      backward({number * kSamples, passes, pass}, after_contribution);
    }
    store->finish_gradients(*stream);
    const double norm = gradient_norm(runtime, *store, counted_, domains->world());
    optimizer->update(
        {number, layout_.optimizer == "sgd" ? 0.05 : 1e-3, norm > 50 ? static_cast<float>(50 / norm) : 1});
    store->share_all(*exchange);
    exchange->finish(true);
    return norm;
  }

  // The local part of every parameter that this rank reads. Collective.
  std::map<std::string, std::vector<float>> masters() {
    std::map<std::string, std::vector<float>> values;
    for (const Parameter& p : registry.parameters()) {
      if (!p.pack->local) continue;
      const Tensor t = store->whole_master(p, *stream);
      values[p.spec.name] = {t.data<float>(), t.data<float>() + t.num_elements()};
    }
    return values;
  }

  Runtime runtime{{.threads = 1}};
  std::unique_ptr<Stream> stream = make_cpu_stream();
  ParameterRegistry registry;
  std::unique_ptr<GradientDomains> domains;
  std::unique_ptr<ResidentStore> store;
  std::unique_ptr<DenseExchange> exchange;
  std::unique_ptr<Optimizer> optimizer;

 private:
  struct Pass {
    int first_sample, num_passes, pass;
  };

  static ParallelOptions options_of(const ToyLayout& l) {
    ParallelOptions o;
    o.pp = l.pp;
    o.dp = l.dr * l.ds;
    o.shard = l.ds;
    o.cp = l.cp;
    o.tp = l.tp;
    o.ep = l.ep;
    o.etp = l.etp;
    return o;
  }
  int chunk_of(int layer) const { return layer * layout_.pp / kLayers; }
  ParameterSpec matrix(const std::string& name, const Shape& shape, int chunk, int split_dim, int64_t units) const {
    ParameterSpec spec = parameter(name, shape);
    spec.chunks = {chunk};
    spec.placement = {{split_dim, {"tp"}, units}};
    return spec;
  }
  ParameterSpec experts(const std::string& name, const Shape& shape, int chunk, int split_dim) const {
    ParameterSpec spec = parameter(name, shape, Role::kExpert);
    spec.chunks = {chunk};
    spec.placement = {{0, {"ep"}, 4}, {split_dim, {"etp"}, 8}};
    return spec;
  }
  ParameterSpec norm(const std::string& name, int chunk) const {
    ParameterSpec spec = parameter(name, {48}, Role::kNorm);
    spec.chunks = {chunk};
    spec.partial = {"tp"};
    return spec;
  }
  void declare() {
    const int last = layout_.pp - 1;
    ParameterSpec tied = matrix("tied", {96, 48}, 0, 0, 96);
    tied.role = Role::kEmbedding;
    tied.chunks = {0, last};
    registry.add(tied);
    for (int i = 0; i < kLayers; ++i) {
      const std::string layer = fmt::format("layers.{}.", i);
      const int chunk = chunk_of(i);
      registry.add(norm(layer + "norm", chunk));
      registry.add(layer + "qkv", {matrix(layer + "q", {48, 48}, chunk, 0, 8),
                                   matrix(layer + "k", {12, 48}, chunk, 0, layout_.kv_units),
                                   matrix(layer + "v", {12, 48}, chunk, 0, layout_.kv_units)});
      registry.add(matrix(layer + "o", {48, 48}, chunk, 1, 8));
      registry.add(layer + "mlp",
                   {matrix(layer + "gate", {80, 48}, chunk, 0, 8), matrix(layer + "up", {80, 48}, chunk, 0, 8)});
      registry.add(layer + "experts", {experts(layer + "experts.gate", {4, 24, 16}, chunk, 1),
                                       experts(layer + "experts.up", {4, 24, 16}, chunk, 1)});
      registry.add(experts(layer + "experts.down", {4, 16, 24}, chunk, 2));
    }
    registry.add(norm("norm", last));
  }

  static Form form_of(const Pack& pack) {
    const bool product = pack.role() == Role::kMatrix || pack.role() == Role::kExpert;
    return product ? Form::kRowMajor : Form::kMaster;
  }
  void forward() {
    for (Pack& pack : registry.packs())
      if (pack.local) store->acquire(pack, form_of(pack), *stream);
  }
  void backward(const Pass& pass, const std::function<void()>& after_contribution) {
    auto& packs = registry.packs();
    const bool last = mesh_.index("pp") == layout_.pp - 1;
    if (last) contribute(packs.front(), pass, 0.75f);
    for (auto pack = packs.rbegin(); pack != packs.rend(); ++pack) {
      if (!pack->local) continue;
      store->acquire(*pack, form_of(*pack), *stream);
      if (pack->id > 0)
        contribute(*pack, pass, 1);
      else if (mesh_.index("pp") == 0)
        contribute(*pack, pass, 0.25f);
      after_contribution();
    }
  }

  // What this rank sees of which samples.
  struct Share {
    int sample;
    float weight;
  };
  static Share share_of(const Pass& pass, int data_rank, int place, int places) {
    const float weight = static_cast<float>(place + 1) * 2.0f / static_cast<float>(places * (places + 1));
    return {pass.first_sample + data_rank * pass.num_passes + pass.pass, weight};
  }
  std::vector<Share> shares(const Parameter& p, const Pass& pass) const {
    if (p.spec.role != Role::kExpert) {
      Communicator* comm = p.pack->id > 0 ? domains->partial(p) : nullptr;
      return {share_of(pass, domains->gradient().rank(), comm ? comm->rank() : 0, comm ? comm->size() : 1)};
    }
    // An expert gets the rows of all ranks among which the experts are dealt.
    std::vector<Share> result;
    const MeshCoord here = mesh_.coord_among_experts(mesh_.world().rank());
    for (int rank = 0; rank < mesh_.num_ranks(); ++rank) {
      const MeshCoord there = mesh_.coord_among_experts(rank);
      if (there[0].index != here[0].index || there[1].index != here[1].index || there[2].index != here[2].index)
        continue;
      const int in_stage = rank % (mesh_.num_ranks() / layout_.pp);
      result.push_back(share_of(pass, in_stage / layout_.tp, in_stage % layout_.tp, layout_.tp));
    }
    return result;
  }
  void contribute(Pack& pack, const Pass& pass, float reading) {
    GradientTarget target = store->gradient(pack);
    std::vector<float> values(static_cast<size_t>(pack.num_elements()));
    for (const Parameter* p : pack.members) {
      const Box& box = p->boxes.front();
      for (const Share& share : shares(*p, pass)) {
        const RandomSite site = random_site(static_cast<uint64_t>(share.sample), p->spec.name);
        for (int64_t i = 0; i < p->local_shape.num_elements(); ++i)
          values[static_cast<size_t>(p->pack_offset + i)] +=
              share.weight * reading *
              random_normal(site, logical_row(*p, i), box.lo.back() + i % p->local_shape.cols());
      }
    }
    const Tensor x = Tensor::wrap(values.data(), target.value.shape(), DType::kF32);
    if (target.accumulate)
      add_into(runtime, target.value, x);
    else
      copy(runtime, x, target.value);
    store->contributed(pack);
  }

  ToyLayout layout_;
  Mesh mesh_;
  std::vector<ShardPiece> counted_;
};

}  // namespace deepflow::testing
