#pragma once

#include "data/tokenizer_spec.h"

#include <nlohmann/json.hpp>

#include <string>

namespace deepflow {

// Reads the value of a tokenizer.json (docs/formats/tokenizer.md has the grammar that is understood). Whatever is not
// implemented is refused with a DataError that names its place.
TokenizerSpec read_tokenizer_spec(const nlohmann::json& root, const std::string& file);

// XXH3-128 over the canonical content, 32 hex digits: without truncation and padding, merges as pairs, keys sorted, no
// blanks.
std::string tokenizer_digest(const nlohmann::json& root);

// A tokenizer.json as Hugging Face tokenizers writes it.
std::string write_tokenizer_json(const TokenizerSpec& spec);
// The tokenizer_config.json beside it, for transformers.
std::string write_tokenizer_config(const std::string& end_of_document);

}  // namespace deepflow
