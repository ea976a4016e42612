#pragma once

#include "data/tokenizer.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

struct BpeTrainerOptions {
  int64_t vocabulary = 4096;     // ids in all: special tokens, 256 bytes, merges
  std::string pattern = "gpt2";  // "gpt2", "llama3", "qwen", or a regular expression that cuts text into words
  bool nfc = false;              // text is brought to normal form C first
  bool ignore_merges = false;    // written to the file (Llama-3): a word that is a token is taken whole
  std::vector<std::string> special_tokens = {"<|endoftext|>"};  // ids from 0 on; the first one ends a document
  int64_t min_frequency = 0;                                    // a pair that occurs less often is not merged
  int threads = 1;
};

// Gives the next document in `text` and returns true, or returns false after the last. Called by one thread at a time.
using DocumentSource = std::function<bool(std::string& text)>;

// Learns a byte-level BPE vocabulary (Sennrich et al. 2016; bytes as in GPT-2) from documents. Deterministic: among
// pairs that occur equally often the one with the lower ids wins, as in BpeTrainer of Hugging Face tokenizers, so that
// both learn the same merges from the same text. A small corpus may give fewer tokens than asked for. Throws
// ConfigError for options that cannot be met. Memory: the different words, never the corpus.
std::unique_ptr<Tokenizer> train_bpe(const BpeTrainerOptions& options, const DocumentSource& next_document);
std::unique_ptr<Tokenizer> train_bpe(const BpeTrainerOptions& options, std::span<const std::string_view> documents);

}  // namespace deepflow
