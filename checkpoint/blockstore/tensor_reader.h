#pragma once

#include "checkpoint/blockstore/data_files.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "core/thread_pool.h"

#include <memory>
#include <span>
#include <vector>

namespace deepflow {

// Reads parts of tensors out of a checkpoint: only the blocks that hold them, each compared with its digest.
class TensorReader {
 public:
  explicit TensorReader(const StoredCheckpoint& checkpoint, const ThreadPool* pool = nullptr);

  // The values of these boxes, one box behind another, row-major. of_contributors: only slices of those (kSum).
  // Throws DataError that names file, byte, tensor and elements; StorageError.
  void read(const StoredTensor& tensor, const std::vector<Box>& boxes, std::span<char> out, int contributor = 0);
  // The system may begin to read what the next call of `read` will want first.
  void expect(const StoredTensor& tensor, const std::vector<Box>& boxes, int contributor = 0);

  int64_t bytes_read() const;  // stored bytes, so far

 private:
  struct Piece;
  std::vector<Piece> pieces_of(const StoredTensor& tensor, const std::vector<Box>& boxes, int contributor) const;
  void expect_pieces(DataFiles& files, const std::vector<Piece>& pieces, size_t first) const;
  void read_piece(DataFiles& files, std::vector<char>& scratch, const StoredTensor& tensor, const Piece& piece,
                  std::span<char> out) const;

  const StoredCheckpoint& checkpoint_;
  const ThreadPool* pool_;
  std::vector<std::unique_ptr<DataFiles>> files_;  // of each thread
  std::vector<std::vector<char>> scratch_;
};

}  // namespace deepflow
