#pragma once

#include "checkpoint/blockstore/new_checkpoint.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "core/dtype.h"
#include "core/parameter.h"
#include "core/runtime.h"
#include "data/tokenizer.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

// Models out of checkpoints and into them, one parameter in memory at a time. Every function throws DataError for
// parameters that are not those of the model, and StorageError.

struct Exported {
  int64_t parameters = 0;          // elements
  int64_t bytes_read = 0;          // of the checkpoint
  std::vector<std::string> notes;  // what the user should know, a line each
};

// tokenizer: tokenizer.json or its folder, to be written beside the weights; "": that of the run's recipe where it is
// still there. dtype: f32, bf16 or f16. `out` is a folder, or of HDF5 a file.
Exported export_hugging_face(Runtime& runtime, const StoredCheckpoint& checkpoint, const std::string& out, DType dtype,
                             const std::string& tokenizer);
Exported export_hdf5(Runtime& runtime, const StoredCheckpoint& checkpoint, const std::string& out, DType dtype);

// Whether parameters of a role are coded in a lossy export; of the others every bit counts and few bytes are saved.
bool may_be_coded(Role role);

struct ParameterExportOptions {
  DType dtype = DType::kF32;  // or kBF16
  std::string codec =
      "auto";  // or a codec's name; a lossy one for matrices alone, norms, biases and routers stay exact
  int writers = 1;
};
// A checkpoint of the parameters alone. With a lossy codec its manifest says so (Manifest::lossy), and no run resumes
// from it.
NewCheckpoint export_parameters(Runtime& runtime, const StoredCheckpoint& checkpoint, const std::string& out,
                                const ParameterExportOptions& options);

// The same from a Hugging Face folder or a file of export_hdf5: step 0, parameters in f32.
NewCheckpoint import_hugging_face(Runtime& runtime, const std::string& folder, const std::string& out, int writers);
NewCheckpoint import_hdf5(Runtime& runtime, const std::string& file, const std::string& out, int writers);

// The tokenizer that the recipe of a manifest's `run` names, where it is still there with the digest that the run was
// trained with; otherwise null, and `note` says why.
std::unique_ptr<Tokenizer> tokenizer_of_run(const std::string& run, std::string& note);

}  // namespace deepflow
