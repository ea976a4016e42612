#include "engine/evaluator.h"

#include "engine/pipeline_executor.h"
#include "engine/pipeline_plan.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace deepflow {
namespace {

constexpr int64_t kRowsOfAPass = 4096;

// Windows [first, first + count) of the store; those from `end` on predict nothing. Every rank has as many passes of as
// many rows as the others, because they work on them together.
Batch read_windows(const HeldOut& heldout, int64_t first, int64_t count, int64_t end) {
  const int64_t there = std::clamp<int64_t>(end - first, 0, count);
  if (there == count) return heldout.read(first, count);
  const Batch whole = heldout.read(there > 0 ? first : 0, std::max<int64_t>(there, 1));
  Batch padded;
  padded.resize(count, heldout.sequence());
  padded.first_sample = whole.first_sample;
  std::fill(padded.labels.begin(), padded.labels.end(), kMaskedLabel);
  for (int64_t row = 0; row < padded.rows(); ++row) {
    const auto to = static_cast<size_t>(row), from = static_cast<size_t>(row % whole.rows());
    padded.tokens[to] = whole.tokens[from];
    padded.positions[to] = whole.positions[from];
    padded.doc_start[to] = whole.doc_start[from];
    if (row < there * heldout.sequence()) padded.labels[to] = whole.labels[from];
  }
  padded.num_labels = there > 0 ? whole.num_labels : 0;
  return padded;
}

}  // namespace

Evaluation evaluate(Machine& machine, const HeldOut& heldout, int64_t windows, uint64_t seed) {
  const int64_t total = windows > 0 ? std::min(windows, heldout.num_windows()) : heldout.num_windows();
  const int64_t rank = machine.data_axes().rank(), size = machine.data_axes().size();
  const int64_t share = (total + size - 1) / size;
  const int64_t count = std::clamp<int64_t>(kRowsOfAPass / heldout.sequence(), 1, std::max<int64_t>(1, share));
  const int64_t passes = (share + count - 1) / count;
  const int64_t first = total * rank / size, end = total * (rank + 1) / size;
  PassOptions options;
  options.training = false;
  options.seed = seed;
  struct Windows {
    Batch batch;
    size_t uses = 0;
  };
  std::map<int, Windows> windows_of;  // of the passes that are not through all chunks of this rank
  const size_t chunks_here = machine.links.own_chunks().size();
  double loss = 0, labels = 0;
  const auto input = [&](int i) {
    std::erase_if(windows_of, [&](const auto& w) { return w.second.uses == chunks_here; });
    auto [it, fresh] = windows_of.try_emplace(i);
    Batch& batch = it->second.batch;
    if (fresh) {
      batch = read_windows(heldout, first + i * count, count, end);
      labels += static_cast<double>(batch.num_labels);
    }
    ++it->second.uses;
    return take_micro_batch(machine.runtime, batch, 0, count, machine.rows);
  };
  PipelineExecutor executor(machine, options, stream_rows(machine.rows, count, heldout.sequence()), input,
                            [&](int, const ChunkPass& pass) { loss += pass.summed_nll(); });
  executor.run(plan_forward(machine.links.rank_of_chunk(), machine.links.num_stages(), static_cast<int>(passes)));
  const bool counts = machine.counts_loss();
  const double local[] = {counts ? loss : 0, counts && machine.mesh.index("cp") == 0 ? labels : 0};
  const std::vector<double> sums = sum_doubles(machine.world(), local, "held-out loss");
  Evaluation result;
  result.num_labels = static_cast<int64_t>(sums[1]);
  if (result.num_labels == 0) return result;
  result.loss = sums[0] / sums[1];
  result.perplexity = std::exp(result.loss);
  if (heldout.store().source_bytes() > 0)
    result.bits_per_byte = heldout.bits_per_byte(result.loss * static_cast<double>(heldout.num_labels()),
                                                 machine.model.shape().vocabulary);
  return result;
}

}  // namespace deepflow
