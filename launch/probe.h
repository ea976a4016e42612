#pragma once

#include "engine/run_options.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// Token ids from a text file: one sequence a line, ids between blanks or commas, all lines of the same length (two or
// more), empty lines skipped. Throws DataError with the line number.
struct TokenFile {
  int64_t batch = 0, sequence = 0;
  std::vector<int32_t> ids;  // [batch, sequence]
};
TokenFile read_token_file(const std::string& path, int64_t vocabulary);

struct ProbeOptions {
  std::string tokens;      // file as above
  std::string out;         // safetensors file
  bool gradients = false;  // also those of every parameter
};

// Runs the model that `options` describes (completed: engine/prepare.h) over the tokens as in training, without
// dropout, and writes `logits` [B, T, V], `loss` [] (mean over next tokens, nats) and each gradient of the loss under
// the name and in the layout of the model's Hugging Face folder, all f32. One process.
void probe(const RunOptions& options, const ProbeOptions& probe_options);

}  // namespace deepflow
