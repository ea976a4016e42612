#include "data/loader.h"

#include "core/error.h"
#include "core/thread_pool.h"

namespace deepflow {

Loader::Loader(std::shared_ptr<const SampleSource> source, const LoaderOptions& options, int64_t cursor)
    : source_(std::move(source)), options_(options), cursor_(cursor) {
  DF_ASSERT(options.rank >= 0 && options.rank < options.size && options.prefetch > 0, "rank {} of {}", options.rank,
            options.size);
  DF_ASSERT(cursor >= 0, "cursor {}", cursor);
  if (options.global_batch < 1 || options.global_batch % options.size != 0) {
    throw ConfigError("train.global_batch: {} samples do not divide over {} data parallel ranks; use a multiple of {}",
                      options.global_batch, options.size, options.size);
  }
  start();
}

Loader::~Loader() { stop(); }

void Loader::start() {
  stopping_ = false;
  thread_ = std::thread([this, from = cursor_] {
    use_any_cpu();
    read_ahead(from);
  });
}

void Loader::stop() {
  {
    std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  ready_.clear();
}

void Loader::seek(int64_t cursor) {
  DF_ASSERT(cursor >= 0, "cursor {}", cursor);
  stop();
  cursor_ = cursor;
  start();
}

void Loader::read_ahead(int64_t cursor) {
  for (;; cursor += options_.global_batch) {
    Slot slot;
    try {
      slot.batch = read_batch(cursor);
    } catch (...) {
      slot.error = std::current_exception();
    }
    const bool failed = slot.error != nullptr;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || ready_.size() < static_cast<size_t>(options_.prefetch); });
    if (stopping_) return;
    ready_.push_back(std::move(slot));
    lock.unlock();
    changed_.notify_all();
    if (failed) return;
  }
}

Batch Loader::read_batch(int64_t cursor) const {
  const int64_t count = options_.global_batch / options_.size;
  Batch batch;
  batch.first_sample = cursor + options_.rank * count;
  batch.resize(count, source_->options().sequence);
  for (int64_t slot = 0; slot < count; ++slot) source_->read(batch.first_sample + slot, slot, &batch);
  return batch;
}

Batch Loader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty(); });
  if (ready_.front().error) std::rethrow_exception(ready_.front().error);
  Batch batch = std::move(ready_.front().batch);
  ready_.pop_front();
  lock.unlock();
  changed_.notify_all();
  cursor_ += options_.global_batch;
  return batch;
}

}  // namespace deepflow
