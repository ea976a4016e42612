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
  int pp = 1, dr = 1, ds = 1, cp = 1, tp = 1;
  int zero = 0;
  DType compute = DType::kF32;
  std::string optimizer = "sgd";
  int kv_units = 1;
  int ranks() const { return pp * dr * ds * cp * tp; }
};

// Training without a model: parameters of every kind, placed as a transformer's are, whose gradients are random numbers
// keyed by (step, sample, parameter, element) and shared out over the ranks that have only a part of the sum.
class ToyTraining {
 public:
  static constexpr int kSamples = 8;
  static constexpr int kLayers = 4;
  static constexpr int64_t kBucketElements = 6000;

  ToyTraining(Communicator& world, const ToyLayout& layout)
      : layout_(layout),
        mesh_(world, {{"pp", layout.pp}, {"dr", layout.dr}, {"ds", layout.ds}, {"cp", layout.cp}, {"tp", layout.tp}}) {
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
    options.domains = domains.get();
    store = std::make_unique<ResidentStore>(runtime, registry, options);
    store->initialise(1);
    exchange = std::make_unique<DenseExchange>(*domains, store->shards(), layout.zero);
    OptimOptions optim;
    optim.name = layout.optimizer;
    optimizer = find_optimizer(optim.name).make(optim, {runtime, *store, store->pieces(), {}});
    counted_ = counted_pieces(*store, *domains);
  }

  // Returns the norm of the gradient.
  double step(
      int number, const std::function<void()>& after_contribution = [] {}) {
    const int data_ranks = domains->gradient().size(), passes = kSamples / data_ranks;
    store->begin_step(passes, exchange.get());
    for (int pass = 0; pass < passes; ++pass) {
      forward();
      backward(number * kSamples + domains->gradient().rank() * passes + pass, after_contribution);
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
  int chunk_of(int layer) const { return layer * layout_.pp / kLayers; }
  ParameterSpec matrix(const std::string& name, const Shape& shape, int chunk, int split_dim, int64_t units) const {
    ParameterSpec spec = parameter(name, shape);
    spec.chunks = {chunk};
    spec.placement = {{split_dim, {"tp"}, units}};
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
    }
    registry.add(norm("norm", last));
  }

  static Form form_of(const Pack& pack) { return pack.role() == Role::kMatrix ? Form::kRowMajor : Form::kMaster; }
  void forward() {
    for (Pack& pack : registry.packs())
      if (pack.local) store->acquire(pack, form_of(pack), *stream);
  }
  void backward(int sample, const std::function<void()>& after_contribution) {
    auto& packs = registry.packs();
    const bool last = mesh_.index("pp") == layout_.pp - 1;
    if (last) contribute(packs.front(), sample, 0.75f);
    for (auto pack = packs.rbegin(); pack != packs.rend(); ++pack) {
      if (!pack->local) continue;
      store->acquire(*pack, form_of(*pack), *stream);
      if (pack->id > 0)
        contribute(*pack, sample, 1);
      else if (mesh_.index("pp") == 0)
        contribute(*pack, sample, 0.25f);
      after_contribution();
    }
  }
  void contribute(Pack& pack, int sample, float reading) {
    GradientTarget target = store->gradient(pack);
    std::vector<float> values(static_cast<size_t>(pack.num_elements()));
    for (const Parameter* p : pack.members) {
      Communicator* comm = pack.id > 0 ? domains->partial(*p) : nullptr;
      const float share =
          comm ? static_cast<float>(comm->rank() + 1) * 2.0f / static_cast<float>(comm->size() * (comm->size() + 1))
               : 1;
      const RandomSite site = random_site(static_cast<uint64_t>(sample), p->spec.name);
      const Box& box = p->boxes.front();
      const int64_t cols = p->local_shape.cols();
      for (int64_t i = 0; i < p->local_shape.num_elements(); ++i)
        values[static_cast<size_t>(p->pack_offset + i)] =
            share * reading *
            random_normal(site, box.lo.size() > 1 ? box.lo[0] + i / cols : 0, box.lo.back() + i % cols);
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
