#include "checkpoint/blockstore/tensor_reader.h"

#include "checkpoint/boxes.h"
#include "checkpoint/printable.h"
#include "core/error.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>

namespace deepflow {
namespace {

constexpr size_t kAhead = 32;  // blocks that the disk is asked for while as many are decoded

}  // namespace

// One block and the stretches of it that are wanted, in bytes.
struct TensorReader::Piece {
  struct Stretch {
    int64_t from, to, count;  // from: in the block
  };
  const StoredSlice* slice;
  int64_t block;  // of the slice
  std::vector<Stretch> stretches;
};

TensorReader::TensorReader(const StoredCheckpoint& checkpoint, const ThreadPool* pool)
    : checkpoint_(checkpoint), pool_(pool) {
  const int threads = pool ? pool->size() : 1;
  for (int t = 0; t < threads; ++t) files_.push_back(std::make_unique<DataFiles>(checkpoint.dir()));
  scratch_.resize(static_cast<size_t>(threads));
}

int64_t TensorReader::bytes_read() const {
  int64_t sum = 0;
  for (const auto& files : files_) sum += files->bytes_read();
  return sum;
}

std::vector<TensorReader::Piece> TensorReader::pieces_of(const StoredTensor& tensor, const std::vector<Box>& boxes,
                                                         int contributor) const {
  const auto element = static_cast<int64_t>(size_of(tensor.dtype));
  std::vector<Piece> pieces;
  int64_t covered = 0;
  for (const StoredSlice& slice : tensor.slices) {
    if (slice.contributor != contributor) continue;
    std::vector<SharedRun> runs;
    for_each_shared_run(slice.boxes, boxes, [&](const SharedRun& run) { runs.push_back(run); });
    std::sort(runs.begin(), runs.end(), [](const SharedRun& x, const SharedRun& y) { return x.a < y.a; });
    bool is_open = false;  // whether the last piece is of this slice
    for (const SharedRun& run : runs) {
      covered += run.count;
      int64_t from = run.a * element, to = run.b * element, left = run.count * element;
      while (left > 0) {
        const int64_t block = from / kBlockBytes, inside = from % kBlockBytes;
        const int64_t count = std::min(left, kBlockBytes - inside);
        if (!is_open || pieces.back().block != block) pieces.push_back({&slice, block, {}});
        is_open = true;
        pieces.back().stretches.push_back({inside, to, count});
        from += count, to += count, left -= count;
      }
    }
  }
  const int64_t wanted = num_elements(boxes);
  if (covered != wanted)
    throw DataError("{}: {} of {} elements of {} that are needed lie in the checkpoint; it is damaged",
                    checkpoint_.path(), covered, wanted, printable(tensor.name));
  return pieces;
}

// kAhead of them; one call for blocks that follow one another.
void TensorReader::expect_pieces(DataFiles& files, const std::vector<Piece>& pieces, size_t first) const {
  const size_t end = std::min(first + kAhead, pieces.size());
  for (size_t i = first; i < end;) {
    const Piece& begin = pieces[i];
    size_t count = 1;
    while (i + count < end && pieces[i + count].slice == begin.slice &&
           pieces[i + count].block == begin.block + static_cast<int64_t>(count))
      ++count;
    files.expect(checkpoint_.index(begin.slice->file), static_cast<size_t>(begin.slice->first_block + begin.block),
                 count, checkpoint_.data_of(begin.slice->file));
    i += count;
  }
}

void TensorReader::expect(const StoredTensor& tensor, const std::vector<Box>& boxes, int contributor) {
  expect_pieces(*files_.front(), pieces_of(tensor, boxes, contributor), 0);
}

void TensorReader::read_piece(DataFiles& files, std::vector<char>& scratch, const StoredTensor& tensor,
                              const Piece& piece, std::span<char> out) const {
  const int64_t bytes = tensor.slice_bytes(*piece.slice), begin = piece.block * kBlockBytes;
  const auto raw = static_cast<size_t>(std::min(kBlockBytes, bytes - begin));
  const auto record = static_cast<size_t>(piece.slice->first_block + piece.block);
  const BlockIndex& index = checkpoint_.index(piece.slice->file);
  try {
    if (record >= index.records.size() || index.records[record].raw != raw)
      throw DataError("{}/{}: has no block {} of {} bytes", checkpoint_.path(), index_file_name(piece.slice->file),
                      record, raw);
    const BlockSource own = checkpoint_.data_of(piece.slice->file);
    const Piece::Stretch& first = piece.stretches.front();
    if (first.count == static_cast<int64_t>(raw)) {
      files.read_block(index, record, own, tensor.dtype, out.subspan(static_cast<size_t>(first.to), raw));
      return;
    }
    scratch.resize(kBlockBytes);
    files.read_block(index, record, own, tensor.dtype, {scratch.data(), raw});
  } catch (const DataError& e) {
    const auto element = static_cast<int64_t>(size_of(tensor.dtype));
    throw DataError("{}; elements {} to {} of a slice of {} are lost: the checkpoint is damaged", e.what(),
                    begin / element, (begin + static_cast<int64_t>(raw)) / element, printable(tensor.name));
  }
  for (const Piece::Stretch& s : piece.stretches)
    std::memcpy(out.data() + s.to, scratch.data() + s.from, static_cast<size_t>(s.count));
}

void TensorReader::read(const StoredTensor& tensor, const std::vector<Box>& boxes, std::span<char> out,
                        int contributor) {
  DF_ASSERT(out.size() == static_cast<size_t>(num_elements(boxes)) * size_of(tensor.dtype));
  const std::vector<Piece> pieces = pieces_of(tensor, boxes, contributor);
  const auto read_one = [&](size_t thread, size_t i) {
    if (i % kAhead == 0) expect_pieces(*files_[thread], pieces, i + kAhead);
    read_piece(*files_[thread], scratch_[thread], tensor, pieces[i], out);
  };
  if (files_.size() == 1 || pieces.size() < 2 * files_.size()) {
    for (size_t i = 0; i < pieces.size(); ++i) read_one(0, i);
    return;
  }
  std::mutex mutex;
  std::exception_ptr failed;
  std::atomic<size_t> next{0};
  pool_->run([&](int thread, int) {
    const auto t = static_cast<size_t>(thread);
    try {
      for (size_t i = next++; i < pieces.size(); i = next++) read_one(t, i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      failed = std::current_exception();
      next = pieces.size();
    }
  });
  if (failed) std::rethrow_exception(failed);
}

}  // namespace deepflow
