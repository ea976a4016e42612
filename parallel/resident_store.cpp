#include "parallel/resident_store.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"

#include <algorithm>

namespace deepflow {
namespace {

bool is_for_input_grad(Form form) { return form == Form::kInputGrad || form == Form::kInputGradInt8; }

}  // namespace

ResidentStore::ResidentStore(Runtime& runtime, ParameterRegistry& registry, DType compute, int64_t bucket_elements,
                             FormsKept forms_kept)
    : runtime_(runtime),
      registry_(registry),
      compute_(compute),
      forms_kept_(forms_kept),
      buckets_(make_buckets(registry, bucket_elements)) {
  packs_.resize(registry.packs().size());
  progress_.resize(buckets_.size());
  for (Bucket& bucket : buckets_) {
    bucket.master = Tensor::empty(runtime.memory(), {bucket.num_elements}, DType::kF32);
    fill(runtime, bucket.master, 0);
    for (size_t i = 0; i < bucket.packs.size(); ++i) {
      state(*bucket.packs[i]).bucket = bucket.id;
      state(*bucket.packs[i]).offset = bucket.offsets[i];
    }
  }
}

// Operations under way hold memory of the runtime, which ends after this; errors have been or will be told by others.
ResidentStore::~ResidentStore() {
  for (BucketState& p : progress_)
    for (const WorkPtr& work : {p.reducing, p.sharing}) try {
        if (work) work->wait_host();
      } catch (const CommError&) {
      }
}

void ResidentStore::initialise(uint64_t seed) {
  for (Parameter& p : registry_.parameters()) {
    Tensor value = master(p);
    if (p.spec.init.kind == Initialiser::Kind::kConstant) {
      fill(runtime_, value, p.spec.init.value);
    } else {
      const Box& box = p.boxes.front();
      const bool matrix = box.lo.size() > 1;
      fill_normal(runtime_, value, random_site(seed, p.spec.name), p.spec.init.stddev, matrix ? box.lo[0] : 0,
                  box.lo.back());
    }
  }
  state_written();
}

Tensor ResidentStore::master(const Pack& pack) {
  const PackState& s = state(pack);
  return buckets_[static_cast<size_t>(s.bucket)]
      .master.flat_range(s.offset, s.offset + pack.num_elements())
      .view({pack.physical_rows, pack.cols});
}

Tensor ResidentStore::master(const Parameter& p) {
  return master(*p.pack)
      .view({p.pack->num_elements()})
      .flat_range(p.pack_offset, p.pack_offset + p.local_shape.num_elements())
      .view(p.local_shape);
}

Tensor ResidentStore::gradient_of(const Parameter& p) {
  Bucket& bucket = buckets_[static_cast<size_t>(state(*p.pack).bucket)];
  DF_ASSERT(bucket.grad.defined());
  const int64_t begin = bucket.offset_of(p);
  return bucket.grad.flat_range(begin, begin + p.local_shape.num_elements()).view(p.local_shape);
}

Tensor ResidentStore::acquire(Pack& pack, Form form, Stream& stream) {
  WorkPtr& sharing = progress_[static_cast<size_t>(state(pack).bucket)].sharing;
  if (sharing) std::exchange(sharing, nullptr)->wait(stream);
  if (form == Form::kMaster) return master(pack);
  if (is_for_input_grad(form) && forms_kept_ == FormsKept::kForward) {
    DerivedForm transient;
    derive(pack, form, transient);
    return transient.value;
  }
  DerivedForm& derived = forms_[{pack.id, form}];
  if (derived.version != pack.version) derive(pack, form, derived);
  return derived.value;
}

void ResidentStore::derive(Pack& pack, Form form, DerivedForm& derived) {
  const Tensor source = master(pack);
  if (!derived.value.defined()) {
    if (form == Form::kRowMajor)
      derived.value = Tensor::empty(runtime_.memory(), source.shape(), compute_);
    else
      derived.value = Tensor::empty(
          runtime_.memory(),
          {static_cast<int64_t>(packed_weight_bytes(runtime_, compute_, pack.physical_rows, pack.cols, form))},
          DType::kU8);
  }
  if (form == Form::kForward || form == Form::kInputGrad) {
    // One pass over the master serves both.
    if (const WeightPanels both = panels(pack); both.forward && both.input_grad) {
      write_panels(runtime_, source, both);
      for (const Form f : {Form::kForward, Form::kInputGrad}) forms_.at({pack.id, f}).version = pack.version;
      return;
    }
  }
  if (form == Form::kRowMajor)
    copy(runtime_, source, derived.value);
  else
    pack_weight(runtime_, source, compute_, form, derived.value);
  derived.version = pack.version;
}

WeightPanels ResidentStore::panels(const Pack& pack) {
  WeightPanels panels{pack.physical_rows, pack.cols};
  for (const Form form : {Form::kForward, Form::kInputGrad}) {
    const auto known = forms_.find({pack.id, form});
    if (known == forms_.end()) continue;
    if (!lies_in_panels(runtime_, compute_, pack.physical_rows, pack.cols, form)) return {};
    (form == Form::kForward ? panels.forward : panels.input_grad) = static_cast<BF16*>(known->second.value.raw());
  }
  return panels;
}

void ResidentStore::written(Pack& pack, bool with_panels) {
  ++pack.version;
  if (!with_panels) return;
  for (const Form form : {Form::kForward, Form::kInputGrad})
    if (const auto known = forms_.find({pack.id, form}); known != forms_.end()) known->second.version = pack.version;
}

int64_t ResidentStore::form_bytes() const {
  int64_t bytes = 0;
  for (const auto& [key, form] : forms_) bytes += static_cast<int64_t>(form.value.num_bytes());
  return bytes;
}

void ResidentStore::ensure_gradients(Bucket& bucket) {
  if (bucket.grad.defined()) return;
  bucket.grad = Tensor::empty(runtime_.memory(), {bucket.num_elements}, DType::kF32);
  // The gaps between packs; gradients themselves are overwritten by the first contribution.
  for (size_t i = 0; i < bucket.packs.size(); ++i) {
    const int64_t end = i + 1 < bucket.packs.size() ? bucket.offsets[i + 1] : bucket.num_elements;
    float* values = bucket.grad.data<float>();
    std::fill(values + bucket.offsets[i] + bucket.packs[i]->num_elements(), values + end, 0.0f);
  }
}

GradientTarget ResidentStore::gradient(Pack& pack) {
  const PackState& s = state(pack);
  Bucket& bucket = buckets_[static_cast<size_t>(s.bucket)];
  ensure_gradients(bucket);
  return {bucket.grad.flat_range(s.offset, s.offset + pack.num_elements()).view({pack.physical_rows, pack.cols}),
          s.contributions > 0};
}

void ResidentStore::begin_step(int passes, Exchange* exchange) {
  passes_ = passes;
  exchange_ = exchange;
  next_bucket_ = 0;
  for (PackState& s : packs_) {
    s.contributions = 0;
    s.square_sum = 0;
  }
  for (Bucket& bucket : buckets_) {
    bucket.grad = {};
    progress_[static_cast<size_t>(bucket.id)].incomplete_packs = static_cast<int>(bucket.packs.size());
  }
}

void ResidentStore::contributed(Pack& pack) {
  PackState& s = state(pack);
  if (++s.contributions < expected(pack)) return;
  DF_ASSERT(s.contributions == expected(pack), "{} got more gradients than the {} it expects", pack.name,
            expected(pack));
  if (gradients_are_final()) s.square_sum = sum_squares(runtime_, gradient(pack).value);
  --progress_[static_cast<size_t>(s.bucket)].incomplete_packs;
  send_complete_buckets();
}

void ResidentStore::send_complete_buckets() {
  while (next_bucket_ < buckets_.size() && progress_[next_bucket_].incomplete_packs == 0) {
    if (exchange_) progress_[next_bucket_].reducing = exchange_->reduce(buckets_[next_bucket_]);
    ++next_bucket_;
  }
}

void ResidentStore::finish_gradients(Stream& stream) {
  for (Bucket& bucket : buckets_) {
    ensure_gradients(bucket);
    for (Pack* pack : bucket.packs)
      if (state(*pack).contributions == 0) {
        Tensor zero = gradient(*pack).value;
        fill(runtime_, zero, 0);
      }
    progress_[static_cast<size_t>(bucket.id)].incomplete_packs = 0;
  }
  send_complete_buckets();
  for (BucketState& p : progress_)
    if (p.reducing) std::exchange(p.reducing, nullptr)->wait(stream);
  wait_for_masters(stream);  // of buckets that no forward pass read: the optimizer writes them next
}

std::optional<double> ResidentStore::gradient_square_sum() const {
  if (!gradients_are_final()) return std::nullopt;
  double sum = 0;
  for (const PackState& s : packs_) sum += s.square_sum;
  return sum;
}

void ResidentStore::share_all(Exchange& exchange) {
  // Forward reads the last bucket first.
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket)
    progress_[static_cast<size_t>(bucket->id)].sharing = exchange.share(*bucket);
}

void ResidentStore::wait_for_masters(Stream& stream) {
  for (BucketState& p : progress_)
    if (p.sharing) std::exchange(p.sharing, nullptr)->wait(stream);
}

void ResidentStore::visit_state(const StateVisitor& visit) {
  for (Parameter& p : registry_.parameters()) {
    StateEntry entry{"parameters/" + p.spec.name, p.spec.shape, p.boxes, 0, master(p), Reshard::kSlice};
    visit(entry);
  }
}

void ResidentStore::state_written() {
  for (Pack& pack : registry_.packs()) written(pack);
}

}  // namespace deepflow
