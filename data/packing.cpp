#include "data/packing.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {

void Batch::resize(int64_t samples, int64_t rows_per_sample) {
  num_samples = samples;
  sequence = rows_per_sample;
  num_labels = 0;
  const auto size = static_cast<size_t>(rows());
  for (auto* column : {&tokens, &labels, &positions, &doc_start}) column->resize(size);
}

Batch Batch::slice(int64_t first, int64_t count) const {
  DF_ASSERT(first >= 0 && count >= 0 && first + count <= num_samples, "samples [{}, {}) of {}", first, first + count,
            num_samples);
  Batch part;
  part.first_sample = first_sample + first;
  part.num_samples = count;
  part.sequence = sequence;
  const auto cut = [&](const std::vector<int32_t>& column) {
    const auto begin = column.begin() + first * sequence;
    return std::vector<int32_t>(begin, begin + count * sequence);
  };
  part.tokens = cut(tokens);
  part.labels = cut(labels);
  part.positions = cut(positions);
  part.doc_start = cut(doc_start);
  part.num_labels = std::count_if(part.labels.begin(), part.labels.end(), [](int32_t l) { return l != kMaskedLabel; });
  return part;
}

void pack_sample(std::span<const int32_t> window, std::span<const int64_t> starts, Documents documents, int64_t valid,
                 int64_t slot, Batch* batch) {
  const int64_t T = batch->sequence;
  DF_ASSERT(static_cast<int64_t>(window.size()) >= valid + 1 && valid >= 0 && valid <= T && slot < batch->num_samples);
  int32_t* tokens = batch->tokens.data() + slot * T;
  int32_t* labels = batch->labels.data() + slot * T;
  int32_t* positions = batch->positions.data() + slot * T;
  int32_t* doc_start = batch->doc_start.data() + slot * T;
  std::copy_n(window.begin(), valid, tokens);
  std::copy_n(window.begin() + 1, valid, labels);
  std::fill(tokens + valid, tokens + T, 0);
  std::fill(labels + valid, labels + T, kMaskedLabel);
  int64_t masked = T - valid;
  int64_t first = 0;
  const auto fill_document = [&](int64_t end) {
    for (int64_t t = first; t < end; ++t) {
      positions[t] = static_cast<int32_t>(t - first);
      doc_start[t] = static_cast<int32_t>(first);
    }
    first = end;
  };
  if (documents == Documents::kSeparate) {
    for (const int64_t start : starts) {
      if (start > valid) break;
      if (start <= first) continue;  // an empty document
      labels[start - 1] = kMaskedLabel;
      ++masked;
      fill_document(std::min(start, T));
    }
  }
  fill_document(T);
  batch->num_labels += T - masked;
}

void find_document_starts(const std::vector<int64_t>& offsets, int64_t first, int64_t count, int64_t shift,
                          std::vector<int64_t>* starts) {
  for (auto it = std::lower_bound(offsets.begin(), offsets.end(), first); it != offsets.end() && *it < first + count;
       ++it) {
    starts->push_back(*it - first + shift);
  }
}

}  // namespace deepflow
