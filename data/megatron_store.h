#pragma once

#include "data/token_store.h"

#include <memory>
#include <string>

namespace deepflow {

// Megatron-LM's indexed data set (megatron/core/datasets/indexed_dataset.py): PREFIX.bin holds the tokens of all
// sequences end to end; PREFIX.idx holds "MMIDIDX\0\0", version 1 (u64), dtype code (u8), number of sequences S (u64),
// number of document bounds D + 1 (u64), S lengths (i32), S byte offsets (i64), D + 1 bounds (i64, in sequences).
// Token types: u8, i8, i16, i32, i64, u16, f32, f64. The format names neither vocabulary nor tokenizer.

// PREFIX when `path` is PREFIX.idx with that magic, PREFIX.bin beside such a file, or PREFIX itself; else "".
std::string megatron_prefix(const std::string& path);

// vocabulary_size: that of the model, 0 for none.
std::shared_ptr<const TokenStore> open_megatron_store(const std::string& prefix, int64_t vocabulary_size);

}  // namespace deepflow
