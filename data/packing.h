#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace deepflow {

inline constexpr int32_t kMaskedLabel = -1;  // this row predicts nothing

enum class Documents : uint8_t {
  kSeparate,  // a row sees its own document only; nothing predicts the next document's first token
  kJoined,    // a sample is one text, whatever lies in it
};

// Whole samples, one after the other, each of `sequence` rows: token-major, [num_samples * sequence].
struct Batch {
  int64_t first_sample = 0;  // of the run; sample s of the batch is first_sample + s
  int64_t num_samples = 0;
  int64_t sequence = 0;
  std::vector<int32_t> tokens;
  std::vector<int32_t> labels;     // the token after it, or kMaskedLabel
  std::vector<int32_t> positions;  // separate: counts from the document's first row in the sample; joined: 0..T-1
  std::vector<int32_t> doc_start;  // row of the sample, 0..T-1, where this row's document begins; joined: 0
  int64_t num_labels = 0;          // rows that are not masked

  int64_t rows() const { return num_samples * sequence; }
  void resize(int64_t samples, int64_t rows_per_sample);
  Batch slice(int64_t first, int64_t count) const;  // samples [first, first + count) of it
};

// Fills sample `slot` of the batch from a window of T + 1 tokens, T = batch.sequence. `starts` lists, rising, the
// places in [1, T] of the window where a document begins. Rows at or after `valid` (0..T) are padding: token 0, masked.
void pack_sample(std::span<const int32_t> window, std::span<const int64_t> starts, Documents documents, int64_t valid,
                 int64_t slot, Batch* batch);

// Appends to `starts` the offsets within [first, first + count), as places counted from `first` and moved by `shift`.
void find_document_starts(const std::vector<int64_t>& offsets, int64_t first, int64_t count, int64_t shift,
                          std::vector<int64_t>* starts);

}  // namespace deepflow
