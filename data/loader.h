#pragma once

#include "data/sample_source.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace deepflow {

struct LoaderOptions {
  int64_t global_batch = 1;  // samples of one step, over all ranks
  int rank = 0;              // of data parallelism
  int size = 1;
  int prefetch = 4;  // batches that the thread may be ahead
};

// Hands a rank its whole samples, step after step. The step at cursor c uses samples [c, c + B) of the source; rank r
// of n gets [c + r * B / n, c + (r + 1) * B / n): the same samples for every n. A thread of its own reads ahead. What
// it throws is rethrown by next() when its batch is due, and again by every next() after that until seek().
class Loader {
 public:
  // ConfigError when the batch does not divide over the ranks.
  Loader(std::shared_ptr<const SampleSource> source, const LoaderOptions& options, int64_t cursor = 0);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  Batch next();
  int64_t cursor() const { return cursor_; }  // the first sample of the next step: all the state there is
  void seek(int64_t cursor);
  const SampleSource& source() const { return *source_; }

 private:
  struct Slot {
    Batch batch;
    std::exception_ptr error;
  };
  void start();
  void stop();
  void read_ahead(int64_t cursor);
  Batch read_batch(int64_t cursor) const;

  std::shared_ptr<const SampleSource> source_;
  LoaderOptions options_;
  int64_t cursor_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Slot> ready_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace deepflow
