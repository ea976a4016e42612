#pragma once

#include "data/tokenizer_json_node.h"
#include "data/tokenizer_spec.h"

// The parts of a tokenizer.json around the model. Each reads its value into `spec` and refuses what it does not know.
namespace deepflow {

void read_normalizer(const JsonNode& node, TokenizerSpec& spec);
void read_pre_tokenizer(const JsonNode& node, TokenizerSpec& spec);
void read_post_processor(const JsonNode& node, TokenizerSpec& spec);
void read_decoder(const JsonNode& node, TokenizerSpec& spec);

}  // namespace deepflow
