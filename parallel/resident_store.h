#pragma once

#include "core/parameter_registry.h"
#include "core/runtime.h"
#include "core/state.h"
#include "kernels/ops/weight_panels.h"
#include "parallel/bucket.h"
#include "parallel/exchange.h"

#include <map>
#include <optional>
#include <vector>

namespace deepflow {

// Which derived forms stay between steps. An input gradient's pack is a tenth of what AdamW training holds per
// parameter; made again for each use, from the master, it costs 6 bytes of memory traffic per parameter and
// micro-batch.
enum class FormsKept : uint8_t { kAll, kForward };

// Every parameter of this rank in memory: f32 masters and gradients in buckets, derived forms made on first use after a
// write. Gradients take memory at their first contribution and give it back when the next step begins, so that backward
// may use what forward's activations leave. Gradients go to the exchange bucket by bucket, in bucket order, while
// backward still runs.
class ResidentStore final : public ParameterStore, public StateOwner {
 public:
  static constexpr int64_t kBucketElements = int64_t{1} << 20;

  // The registry is frozen and outlives the store. compute: dtype of the derived forms.
  ResidentStore(Runtime& runtime, ParameterRegistry& registry, DType compute, int64_t bucket_elements = kBucketElements,
                FormsKept forms_kept = FormsKept::kAll);
  ~ResidentStore() override;  // waits for what is under way
  ResidentStore(const ResidentStore&) = delete;
  ResidentStore& operator=(const ResidentStore&) = delete;

  // Values from the specs' initialisers: the same on every layout.
  void initialise(uint64_t seed);

  Tensor acquire(Pack& pack, Form form, Stream& stream) override;
  void release(Pack&) override {}
  GradientTarget gradient(Pack& pack) override;
  void contributed(Pack& pack) override;

  // Before the first backward of a step. Each pack will get uses_per_pass * passes contributions. exchange may be null
  // (one rank, or gradients for their own sake).
  void begin_step(int passes, Exchange* exchange);
  // After the last backward: packs that nothing contributed to count as zero, buckets not yet sent are sent, and the
  // exchange of all is waited for.
  void finish_gradients(Stream& stream);
  // Masters were written (optimizer, load, initialise): derived forms are stale, but for the panels where the writer
  // has written those as well.
  void written(Pack& pack, bool with_panels = false);
  // The packed forms that are in use, where somebody else may write all of them (kernels/ops/weight_panels.h).
  WeightPanels panels(const Pack& pack);
  // Bucket gathers under way, which the first reader waits for.
  void share_all(Exchange& exchange);
  void wait_for_masters(Stream& stream);

  Tensor master(const Pack& pack);         // f32 [physical_rows, cols]
  Tensor master(const Parameter& p);       // f32, local shape
  Tensor gradient_of(const Parameter& p);  // f32, local shape; after finish_gradients
  // Sum of the squares of all gradients, taken pack by pack as each was complete and still in the caches; nothing where
  // an exchange changes the gradients after that. After finish_gradients.
  std::optional<double> gradient_square_sum() const;
  std::vector<Bucket>& buckets() { return buckets_; }
  ParameterRegistry& registry() { return registry_; }
  DType compute() const { return compute_; }
  int64_t form_bytes() const;

  void visit_state(const StateVisitor& visit) override;  // "parameters/NAME", f32 masters
  void state_written() override;

 private:
  struct PackState {
    int bucket = 0;
    int64_t offset = 0;
    int contributions = 0;
    double square_sum = 0;  // of the complete gradient
  };
  struct BucketState {
    int incomplete_packs = 0;
    WorkPtr reducing, sharing;
  };
  struct DerivedForm {
    Tensor value;
    uint64_t version = 0;
  };

  PackState& state(const Pack& pack) { return packs_[static_cast<size_t>(pack.id)]; }
  int expected(const Pack& pack) const { return pack.uses_per_pass * passes_; }
  void ensure_gradients(Bucket& bucket);
  void send_complete_buckets();
  void derive(Pack& pack, Form form, DerivedForm& derived);
  bool gradients_are_final() const { return exchange_ && exchange_->is_local(); }

  Runtime& runtime_;
  ParameterRegistry& registry_;
  DType compute_;
  FormsKept forms_kept_;
  std::vector<Bucket> buckets_;
  std::vector<PackState> packs_;       // by pack id
  std::vector<BucketState> progress_;  // by bucket id
  std::map<std::pair<int, Form>, DerivedForm> forms_;
  Exchange* exchange_ = nullptr;
  int passes_ = 1;
  size_t next_bucket_ = 0;  // buckets before it have been sent
};

}  // namespace deepflow
