#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deepflow {

// Scalars as TensorBoard reads them: a TFRecord file of tensorflow.Event messages (tensorflow/core/util/event.proto),
// one event a step. Each write reaches the file at once, so that a run can be watched.
class TensorboardWriter {
 public:
  using Scalar = std::pair<std::string, double>;  // tag, value

  // Creates `folder` and in it events.out.tfevents.TIME.HOST.PID. TensorBoard forgets what older files in the folder
  // say about first_step and later. Throws StorageError.
  explicit TensorboardWriter(const std::string& folder, int64_t first_step = 0);
  ~TensorboardWriter();
  TensorboardWriter(const TensorboardWriter&) = delete;
  TensorboardWriter& operator=(const TensorboardWriter&) = delete;

  void add(int64_t step, const std::vector<Scalar>& scalars);
  const std::string& path() const { return path_; }

 private:
  void write_record(std::string_view event);

  std::string path_;
  int file_ = -1;
};

// CRC-32C (Castagnoli), as TFRecord masks it: rotated right by 15 and offset.
uint32_t masked_crc32c(std::string_view bytes);

}  // namespace deepflow
