#pragma once

#include "data/token_store.h"

#include <memory>
#include <string>

namespace deepflow {

// llm.c's data files (dev/data/data_common.py): a head of 256 i32, {magic, version, number of tokens, 0...}, then the
// tokens. Magic 20240520 with version 1: u16, GPT-2's tokens; magic 20240801 with version 7: u32, Llama 3's. The files
// name no documents, but each document begins with the tokenizer's end-of-text token: document_offsets() looks for it
// in the whole file at its first call.

bool is_llmc_head(const unsigned char head[8]);  // either magic

std::shared_ptr<const TokenStore> open_llmc_store(const std::string& path);

}  // namespace deepflow
