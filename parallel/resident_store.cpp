#include "parallel/resident_store.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <utility>

namespace deepflow {

PerDomain<int> shard_ranks(const ResidentStoreOptions& o, int level) {
  if (o.zero < level || !o.domains) return PerDomain<int>(1);
  return {o.domains->shard(GradientDomain::kDense).size(), o.domains->shard(GradientDomain::kExpert).size()};
}

PerDomain<int> shard_places(const ResidentStoreOptions& o) {
  if (o.zero < 1 || !o.domains) return PerDomain<int>(0);
  return {o.domains->shard(GradientDomain::kDense).rank(), o.domains->shard(GradientDomain::kExpert).rank()};
}

bool is_cut(const ResidentStoreOptions& o, int level) {
  const PerDomain<int> ranks = shard_ranks(o, level);
  return ranks[GradientDomain::kDense] > 1 || ranks[GradientDomain::kExpert] > 1;
}

// With ZeRO-3, whether a pack is read exactly decides how its bucket travels.
std::vector<Bucket> buckets_of(ParameterRegistry& registry, const ResidentStoreOptions& o) {
  return make_buckets(registry, o.bucket_elements, o.domains, is_cut(o, 3) && o.compute != DType::kF32);
}

namespace {

// Int8 forms have scales that follow from the exact values.
GatheredMasters::Read read_for(Form form) {
  const bool rounded = form == Form::kRowMajor || form == Form::kForward || form == Form::kInputGrad;
  return rounded ? GatheredMasters::Read::kRounded : GatheredMasters::Read::kExact;
}

ResidentStoreOptions options_of(DType compute, int64_t bucket_elements, FormsKept kept) {
  ResidentStoreOptions o;
  o.compute = compute;
  o.bucket_elements = bucket_elements;
  o.forms_kept = kept;
  return o;
}

}  // namespace

ResidentStore::ResidentStore(Runtime& runtime, ParameterRegistry& registry, const ResidentStoreOptions& options)
    : runtime_(runtime),
      registry_(registry),
      options_(options),
      buckets_(buckets_of(registry, options)),
      shards_(buckets_, shard_ranks(options, 1), options.unit),
      shard_places_(shard_places(options)),
      gradients_(runtime, buckets_, shards_, shard_places_, is_cut(options, 2),
                 !options.domains || options.domains->world().size() == 1),
      forms_(runtime, options.compute, options.forms_kept),
      places_(registry.packs().size()),
      sharing_(buckets_.size()) {
  for (Bucket& bucket : buckets_)
    for (size_t i = 0; i < bucket.packs.size(); ++i)
      places_[static_cast<size_t>(bucket.packs[i]->id)] = {bucket.id, bucket.offsets[i]};
  if (is_cut(options, 3)) {
    const auto drop_forms = [this](const Bucket& bucket) {
      for (const Pack* pack : bucket.packs) forms_.drop(*pack);
    };
    const std::shared_ptr<Communicator> dense = options.domains->shard().duplicate("parameters");
    std::shared_ptr<Communicator> expert = dense;
    if (options.domains->has_experts_apart())
      expert = options.domains->shard(GradientDomain::kExpert).duplicate("parameters of experts");
    gathered_ = std::make_unique<GatheredMasters>(runtime, buckets_, shards_, PerDomain(dense, expert), options.compute,
                                                  drop_forms);
    return;
  }
  for (Bucket& bucket : buckets_) {
    bucket.master = Tensor::empty(runtime.memory(), {bucket.num_elements}, DType::kF32);
    fill(runtime, bucket.master, 0);
  }
}

ResidentStore::ResidentStore(Runtime& runtime, ParameterRegistry& registry, DType compute, int64_t bucket_elements,
                             FormsKept forms_kept)
    : ResidentStore(runtime, registry, options_of(compute, bucket_elements, forms_kept)) {}

// Operations under way hold memory of the runtime, which ends after this; errors have been or will be told by others.
ResidentStore::~ResidentStore() {
  for (const WorkPtr& work : sharing_) try {
      if (work) work->wait_host();
    } catch (const CommError&) {
    }
}

void ResidentStore::initialise(uint64_t seed) {
  if (gathered_) {
    gathered_->wait();
    for (const ShardPiece& piece : pieces())
      initialise_piece(piece.parameter->spec, piece.box, master_piece(piece), seed);
  } else {
    for (const Parameter& p : registry_.parameters())
      if (p.pack->local) initialise_piece(p.spec, p.boxes.front(), master(p), seed);
  }
  state_written();
}

void ResidentStore::initialise_piece(const ParameterSpec& spec, const Box& box, const Tensor& values, uint64_t seed) {
  Tensor flat = values.view({values.num_elements()});
  if (spec.init.kind == Initialiser::Kind::kConstant) {
    fill(runtime_, flat, spec.init.value);
    return;
  }
  const size_t dims = box.lo.size();
  DF_ASSERT(dims <= 3, "{}", spec.name);
  const int64_t cols = box.hi.back() - box.lo.back();
  const int64_t row = dims > 1 ? box.lo[dims - 2] : 0, rows = dims > 1 ? box.hi[dims - 2] - row : 1;
  const int64_t first = dims > 2 ? box.lo[0] : 0, last = dims > 2 ? box.hi[0] : 1;
  const RandomSite site = random_site(seed, spec.name);
  for (int64_t matrix = first; matrix < last; ++matrix) {
    const int64_t begin = (matrix - first) * rows * cols;
    Tensor part = flat.flat_range(begin, begin + rows * cols).view({rows, cols});
    fill_normal(runtime_, part, site, spec.init.stddev, dims > 2 ? matrix * spec.shape[1] + row : row, box.lo.back());
  }
}

const ResidentStore::Place& ResidentStore::place(const Pack& pack) const {
  const Place& p = places_[static_cast<size_t>(pack.id)];
  DF_ASSERT(p.bucket >= 0, "{} is not on this rank", pack.name);
  return p;
}

Tensor ResidentStore::slice(const Tensor& bucket, const Pack& pack) const {
  const int64_t begin = place(pack).offset;
  return bucket.flat_range(begin, begin + pack.num_elements()).view({pack.physical_rows, pack.cols});
}

Tensor ResidentStore::master(const Pack& pack) {
  DF_ASSERT(!gathered_, "{} is only here in pieces", pack.name);
  return slice(buckets_[static_cast<size_t>(place(pack).bucket)].master, pack);
}

Tensor ResidentStore::master(const Parameter& p) {
  return master(*p.pack)
      .view({p.pack->num_elements()})
      .flat_range(p.pack_offset, p.pack_offset + p.local_shape.num_elements())
      .view(p.local_shape);
}

Tensor ResidentStore::whole_master(const Parameter& p, Stream& stream) {
  if (!gathered_) {
    wait_for_masters(stream);
    return master(p);
  }
  const int bucket = place(*p.pack).bucket;
  const int64_t begin = buckets_[static_cast<size_t>(bucket)].offset_of(p);
  return gathered_->use(bucket, GatheredMasters::Read::kExact, stream)
      .flat_range(begin, begin + p.local_shape.num_elements())
      .view(p.local_shape);
}

Tensor ResidentStore::master_piece(const ShardPiece& piece) {
  if (!gathered_) return buckets_[static_cast<size_t>(piece.bucket)].master.flat_range(piece.begin, piece.end);
  const int64_t begin = shards_.begin(piece.bucket, shard_place(piece.bucket));
  return gathered_->shard(piece.bucket).flat_range(piece.begin - begin, piece.end - begin);
}

void ResidentStore::load(const Parameter& p, const Tensor& value) {
  DF_ASSERT(value.num_elements() == p.local_shape.num_elements(), "{}: {}", p.spec.name, value.shape().to_string());
  const Tensor from = value.view({value.num_elements()});
  const Place& at = place(*p.pack);
  if (gathered_) gathered_->wait();
  if (WorkPtr& sharing = sharing_[static_cast<size_t>(at.bucket)]) std::exchange(sharing, nullptr)->wait_host();
  const int64_t start = at.offset + p.pack_offset, size = p.local_shape.num_elements();
  const int64_t lo = gathered_ ? std::max(start, shards_.begin(at.bucket, shard_place(at.bucket))) : start;
  const int64_t hi = gathered_ ? std::min(start + size, shards_.end(at.bucket, shard_place(at.bucket))) : start + size;
  if (lo < hi) {
    Tensor to = master_piece({nullptr, at.bucket, lo, hi, {}});
    copy(runtime_, from.flat_range(lo - start, hi - start), to);
  }
  written(*p.pack);
}

Tensor ResidentStore::acquire(Pack& pack, Form form, Stream& stream) {
  const int bucket = place(pack).bucket;
  if (WorkPtr& sharing = sharing_[static_cast<size_t>(bucket)]) std::exchange(sharing, nullptr)->wait(stream);
  if (!gathered_)
    return form == Form::kMaster ? master(pack) : forms_.acquire(pack, form, [&] { return master(pack); });

  Tensor values = slice(gathered_->use(bucket, read_for(form), stream), pack);
  if (form == Form::kMaster || (form == Form::kRowMajor && values.dtype() == options_.compute)) return values;
  return forms_.acquire(pack, form, [&] {
    if (values.dtype() == DType::kF32) return values;
    Tensor widened = Tensor::empty(runtime_.memory(), values.shape(), DType::kF32);
    copy(runtime_, values, widened);
    return widened;
  });
}

WeightPanels ResidentStore::panels(const Pack& pack) { return pack.local ? forms_.panels(pack) : WeightPanels{}; }

void ResidentStore::written(Pack& pack, bool with_panels) {
  ++pack.version;
  if (with_panels) forms_.panels_written(pack);
  if (gathered_) gathered_->written();
}

void ResidentStore::begin_step(int passes, Exchange* exchange) {
  gradients_.begin_step(passes, exchange);
  if (gathered_) gathered_->begin_step(passes);
}

void ResidentStore::finish_gradients(Stream& stream) {
  gradients_.finish(stream);
  if (gathered_) gathered_->end_step();
  wait_for_masters(stream);  // of buckets that no forward pass read: the optimizer writes them next
}

void ResidentStore::share_all(Exchange& exchange) {
  if (gathered_) {
    gathered_->gather_ahead();
    return;
  }
  // Forward reads the last bucket first.
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket)
    sharing_[static_cast<size_t>(bucket->id)] = exchange.share(*bucket);
}

void ResidentStore::wait_for_masters(Stream& stream) {
  if (gathered_) gathered_->wait();
  for (WorkPtr& sharing : sharing_)
    if (sharing) std::exchange(sharing, nullptr)->wait(stream);
}

void ResidentStore::visit_state(const StateVisitor& visit) {
  const auto report = [&](const Parameter& p, std::vector<Box> boxes, Tensor value) {
    StateEntry entry{"parameters/" + p.spec.name, p.spec.shape, std::move(boxes), 0, std::move(value), Reshard::kSlice};
    visit(entry);
  };
  if (gathered_) {
    for (const ShardPiece& piece : pieces()) report(*piece.parameter, {piece.box}, master_piece(piece));
  } else {
    for (Parameter& p : registry_.parameters())
      if (p.pack->local) report(p, p.boxes, master(p));
  }
}

void ResidentStore::state_written() {
  for (Pack& pack : registry_.packs()) written(pack);
}

}  // namespace deepflow
