#pragma once

#include "core/parameter_registry.h"
#include "core/runtime.h"
#include "core/state.h"
#include "parallel/bucket.h"
#include "parallel/exchange.h"
#include "parallel/form_cache.h"
#include "parallel/gathered_masters.h"
#include "parallel/gradient_buffers.h"
#include "parallel/gradient_domains.h"
#include "parallel/shard_map.h"

#include <memory>
#include <optional>
#include <vector>

namespace deepflow {

struct ResidentStoreOptions {
  DType compute = DType::kF32;  // of the derived forms
  int64_t bucket_elements = int64_t{1} << 20;
  FormsKept forms_kept = FormsKept::kAll;
  // What is cut over the shard axes (Rajbhandari et al. 2020, section 5): 0 nothing, 1 optimizer state and the update,
  // 2 gradients as well, 3 masters as well.
  int zero = 0;
  UpdateUnit unit = UpdateUnit::kRow;        // of the optimizer: where a shard may be cut
  const GradientDomains* domains = nullptr;  // outlives the store; null: this rank is alone
};

// What of a store follows from its options, before there is one: its buckets, over how many ranks what a ZeRO level
// names is cut, and this rank's place among them.
std::vector<Bucket> buckets_of(ParameterRegistry& registry, const ResidentStoreOptions& options);
PerDomain<int> shard_ranks(const ResidentStoreOptions& options, int level);
PerDomain<int> shard_places(const ResidentStoreOptions& options);
bool is_cut(const ResidentStoreOptions& options, int level);

// Parameters of this rank in memory: f32 masters in buckets, gradients in buckets of the same layout
// (parallel/gradient_buffers.h), derived forms made on first use after a write. Up to ZeRO-2 masters are whole on every
// rank; with ZeRO-3 they are gathered bucket by bucket while they are used (parallel/gathered_masters.h), and forms
// last as long as what they were derived from.
class ResidentStore final : public ParameterStore, public StateOwner {
 public:
  static constexpr int64_t kBucketElements = ResidentStoreOptions{}.bucket_elements;

  // The registry is frozen and outlives the store. Collective with ZeRO-3.
  ResidentStore(Runtime& runtime, ParameterRegistry& registry, const ResidentStoreOptions& options);
  ResidentStore(Runtime& runtime, ParameterRegistry& registry, DType compute, int64_t bucket_elements = kBucketElements,
                FormsKept forms_kept = FormsKept::kAll);
  ~ResidentStore() override;  // waits for what is under way
  ResidentStore(const ResidentStore&) = delete;
  ResidentStore& operator=(const ResidentStore&) = delete;

  // Values from the specs' initialisers: the same on every layout.
  void initialise(uint64_t seed);

  Tensor acquire(Pack& pack, Form form, Stream& stream) override;
  void release(Pack&) override {}
  GradientTarget gradient(Pack& pack) override { return gradients_.gradient(pack); }
  void contributed(Pack& pack) override { gradients_.contributed(pack); }

  // Before the first forward pass of a step. Each pack will get uses_per_pass * passes contributions. exchange may be
  // null up to ZeRO-1 (one rank, or gradients for their own sake).
  void begin_step(int passes, Exchange* exchange);
  // After the last backward: packs that nothing contributed to count as zero, buckets not yet sent are sent, and the
  // exchange of all is waited for.
  void finish_gradients(Stream& stream);
  // Masters were written (optimizer, load, initialise): derived forms are stale, but for the panels where the writer
  // has written those as well.
  void written(Pack& pack, bool with_panels = false);
  // The packed forms that are in use, where somebody else may write all of them (kernels/ops/weight_panels.h).
  WeightPanels panels(const Pack& pack);
  // Gathers of updated masters, bucket by bucket, which the first reader waits for.
  void share_all(Exchange& exchange);
  void wait_for_masters(Stream& stream);

  bool masters_are_sharded() const { return gathered_ != nullptr; }
  const ShardMap& shards() const { return shards_; }
  std::vector<ShardPiece> pieces() const { return shards_.pieces(shard_places_); }  // of this rank

  // Whole masters, in place: not with ZeRO-3.
  Tensor master(const Pack& pack);    // f32 [physical_rows, cols]
  Tensor master(const Parameter& p);  // f32, local shape
  // To read at any level. With ZeRO-3 collective over the shard axes: all ranks ask in the same order; outside of
  // steps.
  Tensor whole_master(const Parameter& p, Stream& stream);  // f32, local shape
  // Writes what this rank keeps of a parameter's local part (f32, local shape).
  void load(const Parameter& p, const Tensor& value);

  // Pieces of this rank's shard, in place, f32 [end - begin].
  Tensor master_piece(const ShardPiece& piece);
  Tensor gradient_piece(const ShardPiece& piece) { return gradients_.piece(piece); }  // after finish_gradients
  // After finish_gradients, up to ZeRO-1: f32, local shape.
  Tensor gradient_of(const Parameter& p) { return gradients_.of(p); }
  // Sum of the squares of all gradients, taken pack by pack as each was complete and still in the caches; nothing where
  // other ranks have a part in it. After finish_gradients.
  std::optional<double> gradient_square_sum() const { return gradients_.square_sum(); }

  std::vector<Bucket>& buckets() { return buckets_; }
  ParameterRegistry& registry() { return registry_; }
  DType compute() const { return options_.compute; }
  int64_t form_bytes() const { return forms_.bytes(); }
  int64_t gather_bytes_sent() const { return gathered_ ? gathered_->bytes_sent() : 0; }  // so far, with ZeRO-3

  // "parameters/NAME", f32: the local part, or with ZeRO-3 this rank's pieces of it.
  void visit_state(const StateVisitor& visit) override;
  void state_written() override;

 private:
  struct Place {
    int bucket = -1;
    int64_t offset = 0;
  };
  const Place& place(const Pack& pack) const;
  int shard_place(int bucket) const { return shard_places_[buckets_[static_cast<size_t>(bucket)].domain]; }
  Tensor slice(const Tensor& bucket, const Pack& pack) const;
  void initialise_piece(const ParameterSpec& spec, const Box& box, const Tensor& values, uint64_t seed);

  Runtime& runtime_;
  ParameterRegistry& registry_;
  const ResidentStoreOptions options_;
  std::vector<Bucket> buckets_;
  const ShardMap shards_;
  const PerDomain<int> shard_places_;
  GradientBuffers gradients_;
  FormCache forms_;
  std::unique_ptr<GatheredMasters> gathered_;  // ZeRO-3
  std::vector<Place> places_;                  // by pack id
  std::vector<WorkPtr> sharing_;               // by bucket id
};

}  // namespace deepflow
