#pragma once

#include "checkpoint/blockstore/stored_checkpoint.h"

#include <cstdint>
#include <string>

namespace deepflow {

// What it takes to serve a checkpoint's model.
struct ServingSize {
  std::string family;
  int64_t parameters = 0;  // elements
  int64_t active = 0;      // of those that a token passes through: with experts only its choices
  // Bytes of the weights. Of int8 and nf4 as `ckpt convert --to blockstore` writes them: matrices in codes with an f32
  // scale for 64, the rest f32.
  int64_t f32 = 0, bf16 = 0, int8 = 0, nf4 = 0;
  int64_t layers = 0, context = 0;  // positions
  int64_t cache_bytes = 0;          // of a token in all layers, bf16
  int64_t full_cache_bytes = 0;     // of latent attention: were keys and values stored, not the rows they come from
  std::string largest;              // parameter
  int64_t largest_elements = 0;
};
// Throws DataError for a checkpoint that does not hold its model.
ServingSize serving_size(const StoredCheckpoint& checkpoint);

}  // namespace deepflow
